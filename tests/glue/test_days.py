"""Days as partitions: what an ingestion tells of them, what a backfill reads, and that jobs stay jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets import days, ingest
from assets.definitions import build_defs
from assets.resources import HomeResource, ResultsIOManager
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

FIRST = date(2026, 11, 20)
LAST = FIRST + timedelta(days=3)
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def log(folder: Path, name: str, *began: str) -> None:
    """An object with an attempt for each moment."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"attempt_id": f"{name}-{each}", "request_id": f"{name}-{each}", "started_at": each, "model": "m", "status": "success"}
        for each in began
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@dataclass
class Deployment:
    """A folder of logs, a home, and Dagster's instance, in this process."""

    root: Path
    instance: dg.DagsterInstance

    def __post_init__(self) -> None:
        home, logs = Home(self.root / "home"), str(self.root / "logs")
        handed = {"home": HomeResource(root=str(home.root), logs=logs), "io_manager": ResultsIOManager(root=str(home.root))}
        jobs = [dg.define_asset_job(name, selection=name) for name in ("request_log", "request_log_days")]
        self.defs = dg.Definitions(assets=[*ingest.SOURCES, ingest.request_log_days, ingest.request_log], jobs=jobs, resources=handed)
        self.home = home

    def run(self, asset: str, *days_of: date) -> dg.ExecuteInProcessResult:
        """Materialise an asset; of days, from a first to a last, as Dagster's daemon starts a backfill of one run."""
        tags = dict(zip((RANGE_START, RANGE_END), map(str, days_of), strict=False))
        return self.defs.resolve_job_def(asset).execute_in_process(instance=self.instance, tags=tags)

    def told(self) -> dict[str, int]:
        """Days that Dagster takes for materialised, with the rows it was told last."""
        found = {}
        for key in self.instance.get_materialized_partitions(days.KEY):
            asked = dg.AssetRecordsFilter(asset_key=days.KEY, asset_partitions=[key])
            newest = self.instance.fetch_materializations(asked, limit=1).records[0].asset_materialization
            assert newest is not None
            found[key] = newest.metadata[days.ROWS].value
        return dict(sorted(found.items()))  # type: ignore[arg-type]

    def held(self) -> dict[str, int]:
        return {(date(1970, 1, 1) + timedelta(days=day)).isoformat(): held.attempts for day, held in Lake(self.home).held_by_day().items()}


def news_of(result: dg.ExecuteInProcessResult) -> list[str]:
    return sorted(event.partition for event in result.get_asset_materialization_events() if event.asset_key == days.KEY and event.partition)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    for number in range(3):
        day = (FIRST + timedelta(days=number)).isoformat()
        log(tmp_path / "logs", f"{day}/a.jsonl", f"{day}T10:00:00Z", f"{day}T11:00:00Z")
    with dg.DagsterInstance.ephemeral() as instance:
        yield Deployment(tmp_path, instance)


def test_an_ingestion_tells_of_the_days_that_it_changed_and_a_backfill_of_those_it_was_asked_for(deployment: Deployment) -> None:
    assert news_of(deployment.run("request_log")) == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert deployment.told() == deployment.held() == {"2026-11-20": 2, "2026-11-21": 2, "2026-11-22": 2}

    log(deployment.root / "logs", "2026-11-21/b.jsonl", "2026-11-21T12:00:00Z")
    again = deployment.run("request_log")
    assert news_of(again) == ["2026-11-21", "2026-11-22"], "the changed one, and the newest, which was looked at"
    assert deployment.told() == deployment.held() == {"2026-11-20": 2, "2026-11-21": 3, "2026-11-22": 2}

    totals = Lake(deployment.home).totals()
    filled = deployment.run("request_log_days", FIRST, FIRST + timedelta(days=1))
    assert news_of(filled) == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert filled.asset_materializations_for_node("request_log_days")[-1].metadata["objects_new"].value == 3, (
        "read again, those of its days"
    )
    assert Lake(deployment.home).totals() == totals, "and nothing is counted twice"
    assert deployment.told() == deployment.held()
    assert days.partitions(None, deployment.home.root).get_first_partition_key() == "2026-11-20", "where the days begin is noted"

    with dg.DagsterInstance.ephemeral() as instance:
        elsewhere = Deployment(deployment.root, instance)
        elsewhere.run("request_log")
        assert elsewhere.told() == deployment.held(), "a history that never heard of them is told of all days"


def test_a_day_without_logs_is_told_as_one_without_rows(deployment: Deployment) -> None:
    assert deployment.run("request_log_days", LAST, LAST).success
    assert deployment.told() == {"2026-11-23": 0}


def test_the_days_come_before_the_request_log_and_no_job_is_partitioned() -> None:
    made = build_defs()
    graph = made.resolve_asset_graph()
    assert graph.get(dg.AssetKey("request_log")).parent_keys == {dg.AssetKey("log_objects"), days.KEY}
    assert graph.get(days.KEY).backfill_policy == dg.BackfillPolicy.single_run()
    jobs = [made.resolve_job_def(job.name) for job in made.jobs or []]
    assert [job.name for job in jobs if job.partitions_def is not None] == [], "each has a launchpad, and asks for no day"


@pytest.mark.parametrize(
    ("asked", "noted", "first"),
    [
        ("2026-01-01", "2026-11-20", lambda _: date(2026, 1, 1)),
        (None, "2024-11-20", lambda _: date(2024, 11, 20)),
        ("", "no day", lambda today: today - timedelta(days=30)),
        (None, None, lambda today: today - timedelta(days=30)),
        (None, "2999-01-01", lambda today: today),
    ],
)
def test_the_first_day_is_the_one_asked_for_else_the_lakes_else_one_a_month_ago(
    tmp_path: Path, asked: str | None, noted: str | None, first: Callable[[date], date]
) -> None:
    if noted is not None:
        (tmp_path / "dagster").mkdir()
        (tmp_path / "dagster" / "first-day").write_text(noted, encoding="utf-8")
    keys = days.partitions(asked, tmp_path).get_partition_keys()
    today = date.fromisoformat(keys[-1])
    assert date.fromisoformat(keys[0]) == first(today)


def test_a_first_day_that_is_none_is_refused_with_the_variables_name(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="ROUTING_PIPELINE_FIRST_DAY=soon: no day"):
        days.partitions("soon", tmp_path)
