"""The report that answers a question already: delivered again, byte for byte, as long as all that it was made from is what it was.

Belongs here: what a report is made from beside its parameters (`state_of`), keeping what is needed to deliver it again, and finding that.
Does not belong here: whether there are new logs (`ingest.backlog`), making a report (`model`, `files`), results of single operations
(`operations.analyst`). Nothing here takes long to import.

What may make a kept report wrong, and where that is looked at:
    rows, scores, refused records         the lake's version, which changes with every commit of either
    data files changed by hand            their size and the moment of their last change; the checks would look at them again
    parameters, configuration, prices     in the key; so are the engine, the code and what the environment says
    approvals, publications, roll-outs    the record's version, and the weights that were published
    answers to recommendations            as they are kept in the home
    rules changed by hand                 the record is asked about the rule set, and refuses what is not as it was proposed
    the clock                             windows end at the newest request or at --as-of; only freshness passes with time, and the
                                          report stands until it would be judged otherwise
    a router that is asked                such a report is never kept
A run that read the home while it changed keeps nothing: the state is taken before the first row is read and after the last.
Proposals of other analyses are no part of it: no request of an unchanged lake carries rules that were found after it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from routing_pipeline.catalog import Catalog
from routing_pipeline.errors import PipelineError
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.report.out_folder import put
from routing_pipeline.rules.published_weights import published_weights
from routing_pipeline.rules.record import RuleSetRecord
from routing_pipeline.stopping import whole
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.storage.runs import StoredRun

if TYPE_CHECKING:
    # Takes seconds to load; whoever has a report has it already.
    from routing_pipeline.report.model import Report

MADE_BY = (
    "assets.delivery",
    "assets.operations",
    "assets.scope",
    "routing_pipeline.operations.table",
    "routing_pipeline.report.files",
    "routing_pipeline.report.printed",
)
"""Whose code makes a report, by name: nothing of it is loaded."""
ANSWERS = "recommendations.json"
FRESH = "logs_are_fresh"
NO_PART = frozenset({"ROUTING_PIPELINE_HOME", "ROUTING_PIPELINE_CATALOG"})
"""Variables that say where the home is, which it says itself."""


@dataclass(frozen=True)
class Again:
    """A report as it was delivered."""

    run: StoredRun
    files: Mapping[str, bytes]
    lines: tuple[str, ...]

    @property
    def report(self) -> str:
        """report.json."""
        return self.files["report.json"].decode()

    @property
    def notice(self) -> str:
        """What is said of it."""
        made = datetime.fromtimestamp(self.run.published_s, UTC)
        return f"Nothing has changed since {made:%Y-%m-%d %H:%M} UTC: the report of run {self.run.run_id} is delivered again."

    def deliver(self, home: Home, out: Path) -> None:
        """Write the files into a folder; the report is the home's newest from now on, where it may be that.

        Raises:
            UnusableInputError: the folder cannot be written to.
        """
        with whole():
            put(out, self.files)
            home.runs.deliver_again(self.run)
            home.results.storage.mark_used(self.run.key)


def state_of(home: Home, config: Path | None, record: RuleSetRecord) -> str | None:
    """Changes with everything that a report of this home is made from, its parameters apart; None where that cannot be told now."""
    try:
        return key_of(
            lake=Lake(home).version(),
            files=_as_they_are(home),
            place=home.place,
            sources=home.sources(),
            record=record.place.uri,
            decisions=record.version(),
            weights=published_weights(home).model_dump(mode="json"),
            answers=home.coordination.read(ANSWERS),
            config=None if config is None else (str(config.absolute()), config.read_text(encoding="utf-8")),
            environment={name: said for name, said in os.environ.items() if name.startswith("ROUTING_PIPELINE_") and name not in NO_PART},
            prices=Catalog({}).version,
            code=code_key(*MADE_BY),
        )
    except (PipelineError, OSError):
        return None


def keep_for_again(home: Home, report: Report, state: str | None) -> None:
    """Let a report that was just delivered answer the same question, if the home is what it was when the run began to read it."""
    run = report.run
    if state is None or home.runs.state_of(run.run_id) != state:
        return
    # A service was down, was asked, or the run was about something that only happens once.
    if run.stale_because is not None or run.reason is not None or report.scope.router is not None:
        return
    from routing_pipeline.report.printed import lines

    fresh = next((check for check in report.data_quality.checks if check.name == FRESH), None)
    stays_fresh = fresh is not None and fresh.outcome == "passed" and report.scope.parameters.as_of is None
    kept = {
        "run_id": run.run_id,
        "lines": list(lines(report)),
        "rule_set_id": report.routing_rule_set.rule_set_id,
        "until_s": fresh.numbers["newest_s"] + fresh.numbers["allowed_s"] if fresh is not None and stays_fresh else None,
    }
    home.results.save_answer(_key(report.scope.parameters, report.scope.engine, state), kept)


def delivered_before(
    home: Home, parameters: Parameters, engine: str, config: Path | None, record: RuleSetRecord, *, now_s: float | None = None
) -> Again | None:
    """The report that answers these parameters already; None where there is none, or it may be another by now.

    Raises:
        UnusableInputError: its rule set is not as it was proposed any more.
    """
    state = state_of(home, config, record)
    kept = None if state is None else home.results.load_answer(_key(parameters, engine, state))
    if kept is None or (kept["until_s"] is not None and (time() if now_s is None else now_s) > kept["until_s"]):
        return None
    run = home.runs.get(kept["run_id"])
    files = None if run is None else run.published()
    if run is None or files is None or "report.json" not in files:
        return None
    record.settle()
    record.proposal(kept["rule_set_id"])
    return Again(run, files, tuple(kept["lines"]))


def _as_they_are(home: Home) -> str | None:
    """Of the lake's data files in a folder; None where they lie in a bucket, whose files never change under their name."""
    if home.warehouse:
        return None
    every = (os.path.join(folder, name) for folder, _, names in os.walk(home.lake / "data") for name in names)
    found = ((path, os.stat(path)) for path in sorted(every))
    return key_of(files=[(path, state.st_size, state.st_mtime_ns) for path, state in found])


def _key(parameters: Parameters, engine: str, state: str) -> str:
    return key_of(report=parameters.model_dump(mode="json"), engine=engine, state=state)
