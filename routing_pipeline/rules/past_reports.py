"""The reports that a home keeps, in a line each: what was asked, what was found, what became of it.

Belongs here: reading of a stored report what such a line says. Does not belong here: keeping and finding runs (`storage.runs`),
showing the lines (the command line, the live page).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from routing_pipeline import text
from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.estimates import Estimate, Measured, Result, Unidentifiable, quantity
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.in_words import Optimisation, quality_change
from routing_pipeline.rules.lifecycle import Standing, State
from routing_pipeline.rules.record import RuleSetRecord
from routing_pipeline.storage.runs import RunStore, StoredRun

OTHER_VERSION = Unidentifiable(unidentifiable="another version of routing-pipeline wrote this report")


class PastReport(Result):
    """One report of this home."""

    run_id: str
    published: datetime = Field(description="UTC")
    key: str = Field(description="Of its analysis")
    kind: str = Field(description="report: answers the home's own question; experiment: asked with options of its own; alert")
    is_latest: bool = Field(description="Whether `latest` stands for its rules")
    goal: str | None = Field(default=None, description="Null where another version wrote it")
    timeframe: str | None = None
    start: datetime | None = Field(default=None, description="Of the window, UTC")
    end: datetime | None = Field(default=None, description="Of the window, UTC")
    requests: int | None = quantity("In the window", "requests", default=None)
    options: tuple[str, ...] = Field(default=(), description="What was asked beside goal and timeframe, as option=value")
    rule_set_id: str | None = None
    rules: int = quantity("That it proposes", "rules", default=0)
    choices: int = quantity("Rule sets that may be chosen, the proposal among them", "rule sets", default=0)
    saving_usd: Measured = quantity("In 30 days at the pace of these logs; positive is a saving", "USD", default=OTHER_VERSION)
    cost_change: Measured = quantity("Of cost per request, relative to today; negative is a saving", "1", default=OTHER_VERSION)
    quality_change: Measured = quantity("Difference from today", "0..1", default=OTHER_VERSION)
    explored_only: bool = Field(default=False, description="Asked with --explore-only: its rules are no proof")
    state: State | None = Field(default=None, description="Of its rule set; null where the record cannot be reached")
    is_live: bool = False


class _Scope(Result):
    model_config = ConfigDict(extra="ignore")

    timeframe: str
    start_s: float
    end_s: float
    requests: int
    parameters: dict[str, Any]


class _Stored(Result):
    """Of report.json, what a line says."""

    model_config = ConfigDict(extra="ignore")

    scope: _Scope
    routing_rules: Optimisation


_IN_THE_LINE = frozenset({"goal", "timeframe", "as_of", "explore_only"})


def past_reports(runs: RunStore, record: RuleSetRecord | None, most: int | None = None) -> tuple[PastReport, ...]:
    """Every report that can be made again, newest first; `most`: no more than so many."""
    try:
        standing: Standing | None = None if record is None else record.standing()
    except ServiceUnavailableError:
        standing = None
    latest = runs.latest()
    found: Sequence[StoredRun] = runs.all()[:most]
    return tuple(_line(run, standing, is_latest=latest is not None and run.run_id == latest.run_id) for run in found)


def _line(run: StoredRun, standing: Standing | None, *, is_latest: bool) -> PastReport:
    kind = "alert" if run.is_of_alert else "experiment" if run.is_experiment else "report"
    line = PastReport(run_id=run.run_id, published=text.from_seconds(run.published_s), key=run.key, kind=kind, is_latest=is_latest)
    stored = run.load("report", _Stored)
    if stored is None:
        return line
    scope, rules = stored.scope, stored.routing_rules
    rule_set, per_day = rules.rule_set, rules.saving_usd_per_day
    proposed: State = "proposed" if rule_set.rules else "no_change"
    return line.model_copy(
        update={
            "goal": rule_set.goal,
            "timeframe": scope.timeframe,
            "start": text.from_seconds(scope.start_s),
            "end": text.from_seconds(scope.end_s),
            "requests": scope.requests,
            "options": tuple(_options(scope.parameters)),
            "rule_set_id": rule_set.rule_set_id,
            "rules": len(rule_set.rules),
            "choices": len(rules.options),
            "saving_usd": per_day.scaled(DAYS_PER_MONTH) if isinstance(per_day, Estimate) else per_day,
            "cost_change": rule_set.expected.change.cost_usd.relative,
            "quality_change": quality_change(rule_set.expected),
            "explored_only": bool(scope.parameters.get("explore_only")),
            "state": None if standing is None else standing.states.get(rule_set.rule_set_id, proposed),
            "is_live": standing is not None and standing.live == rule_set.rule_set_id,
        }
    )


def _options(asked: dict[str, Any]) -> list[str]:
    """What was asked that is not the default, tables of the configuration file apart."""
    usual = Parameters().model_dump(mode="json")
    changed = ((name, value) for name, value in asked.items() if name not in _IN_THE_LINE and value != usual.get(name))
    return [
        f"{name.replace('_', '-')}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in changed
        if not isinstance(value, dict) and not (isinstance(value, list) and any(isinstance(each, dict) for each in value))
    ]


def lines(found: Sequence[PastReport]) -> Iterator[str]:
    """A line for each report, and one for what it found."""
    for each in found:
        marks = [each.kind] if each.kind != "report" else ["latest"] if each.is_latest else []
        marks += ["explored only, no proof"] if each.explored_only else []
        state = "live" if each.is_live else (each.state or text.CANNOT_TELL).replace("_", " ")
        marks += [state] if each.rules else []
        told = ", ".join(marks)
        yield f"{each.run_id}  {text.moment(each.published)}  {asked(each)}{f'  ({told})' if marks else ''}"
        yield f"  {finding(each)}{f': {each.rule_set_id}' if each.rules else ''}"


def asked(report: PastReport) -> str:
    """What a report was asked, in a few words."""
    if report.goal is None or report.end is None:
        return "made by another version of routing-pipeline"
    options = "".join(f", {text.name(each)}" for each in report.options)
    return f"goal {report.goal}, {report.timeframe} to {text.moment(report.end)}{options}"


def finding(report: PastReport | None) -> str:
    """What a report found, in a few words."""
    if report is None:
        return "nothing yet"
    if report.goal is None:
        return text.CANNOT_TELL
    if not report.rules:
        return "no change recommended"
    options = f" ({report.choices} options)" if report.choices > 1 else ""
    return (
        f"{text.counted(report.rules, 'rule')}{options}, {text.measured(report.saving_usd, text.usd, brief=True)} saved in {DAYS_PER_MONTH} days, "
        f"quality {text.measured(report.quality_change, text.points, brief=True)}"
    )
