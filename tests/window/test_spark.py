"""What `[spark]` may set; that nothing is started by asking for it. Rows on Spark itself: tests/integration/test_two_engines.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.parameters import Parameters, read_parameters
from routing_pipeline.window import spark
from routing_pipeline.window.spark import FEW_ROWS, OF_FEW_ROWS, ingests_on_workers, one_application, settings_for, spark_settings


def written(folder: Path, lines: str) -> Path:
    path = folder / "config.toml"
    path.write_text(f"[spark]\n{lines}\n", encoding="utf-8")
    return path


def test_settings_are_the_same_with_and_without_the_first_word_and_leave_the_question_as_it_is(tmp_path: Path) -> None:
    config = written(tmp_path, 'executor.memory = "4g"\n"spark.sql.shuffle.partitions" = 64\nspark.speculation = true')
    assert spark_settings(config) == {"spark.executor.memory": "4g", "spark.sql.shuffle.partitions": "64", "spark.speculation": "true"}
    assert read_parameters(config) == Parameters()
    assert spark_settings(None) == {}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('sql.session.timeZone = "Europe/Berlin"', "spark.sql.session.timeZone: cannot be set; results rest on UTC"),
        ('master = "yarn"', "spark.master: cannot be set; --engine says where Spark is"),
        ('ingest = "please"', "ingest: give true or false"),
        ('jars.packages = ["a", "b"]', "spark.jars.packages: give text, a number, true or false"),
    ],
)
def test_what_numbers_rest_on_and_what_is_no_value_is_refused_by_name(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(UnusableInputError) as refused:
        spark_settings(written(tmp_path, line))
    assert told in str(refused.value)


def test_workers_read_logs_where_the_configuration_says_so_and_spark_is_not_told(tmp_path: Path) -> None:
    assert [ingests_on_workers(each) for each in (None, written(tmp_path, "speculation = true"))] == [False, False]
    config = written(tmp_path, "ingest = true")
    assert ingests_on_workers(config)
    assert spark_settings(config) == {}


def test_java_compiles_quickly_where_there_are_few_rows_unless_the_configuration_says_otherwise(tmp_path: Path) -> None:
    config = written(tmp_path, 'executor.extraJavaOptions = "-XX:+UseZGC"')
    assert settings_for(None, FEW_ROWS) == OF_FEW_ROWS
    assert settings_for(None, FEW_ROWS + 1) == {}
    assert settings_for(config, 0) == OF_FEW_ROWS | {"spark.executor.extraJavaOptions": "-XX:+UseZGC"}
    # Rows that workers are about to read are in no lake yet.
    assert settings_for(written(tmp_path, "ingest = true"), 0) == {}


class Cluster:
    """What is asked of a context while its first worker is waited for."""

    def __init__(self, joined: int) -> None:
        self.joined = joined
        self.is_stopped = False
        self._jsc = self

    def sc(self) -> Cluster:
        return self

    def getExecutorMemoryStatus(self) -> Cluster:  # noqa: N802 (Spark's name)
        return self

    def size(self) -> int:
        return self.joined

    def stop(self) -> None:
        self.is_stopped = True


def test_a_cluster_without_a_worker_that_has_enough_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.setattr(spark, "WORKER_WITHIN_S", 0.0)
    spark._wait_for_a_worker(Cluster(2), "spark://m:1")
    lonely = Cluster(1)
    with pytest.raises(ServiceUnavailableError, match=r"spark://m:1: no worker has joined .*executor.memory"):
        spark._wait_for_a_worker(lonely, "spark://m:1")
    assert lonely.is_stopped


def test_one_application_lasts_from_its_first_engine_to_the_end_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Session:
        def stop(self) -> None:
            said.append("stopped")

    def begin(_master: str, settings: Mapping[str, str], _log: Path | None) -> Session:
        said.append(settings["spark.executor.memory"])
        return Session()

    monkeypatch.setattr(spark, "_begin", begin)
    with one_application(lambda: {"spark.executor.memory": "4g"}):
        assert said == []
        for _ in range(3):
            with spark.session_of("spark://somewhere", None):
                pass
        assert said == ["4g"]
    assert said == ["4g", "stopped"]


def test_a_run_without_spark_starts_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark, "_begin", lambda *_: pytest.fail("started"))
    with one_application(), one_application(lambda: {"spark.executor.memory": "4g"}):
        pass
    assert (spark._NOW.users, spark._NOW.session, spark._NOW.settings) == (0, None, None)
