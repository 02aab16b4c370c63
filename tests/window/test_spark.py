"""What `[spark]` may set; that nothing is started by asking for it. Rows on Spark itself: tests/integration/test_two_engines.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import Parameters, read_parameters
from routing_pipeline.window import spark
from routing_pipeline.window.spark import one_application, spark_settings


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
        ('jars.packages = ["a", "b"]', "spark.jars.packages: give text, a number, true or false"),
    ],
)
def test_what_numbers_rest_on_and_what_is_no_value_is_refused_by_name(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(UnusableInputError) as refused:
        spark_settings(written(tmp_path, line))
    assert told in str(refused.value)


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
