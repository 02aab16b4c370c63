"""What is said per day, per month and of 30 days goes by the time that the logs cover, not by the window that was asked for."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from weeks import write_weeks

from routing_pipeline.data_quality.suite import check_suite
from routing_pipeline.estimates import Estimate
from routing_pipeline.ingest.feedback import ingest_feedback
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.parameters import Parameters
from routing_pipeline.serving.mcp.answers import Answers
from routing_pipeline.serving.mcp.tools import BY_NAME
from routing_pipeline.storage.home import Home

NOW_S = datetime(2026, 12, 20, tzinfo=UTC).timestamp()
END = datetime(2026, 11, 23, tzinfo=UTC)
PER_HOUR = 6


def home_of(folder: Path, days: float, is_logged: Callable[[float], bool] = lambda _: True, end: datetime = END) -> Home:
    """A home of the days before `end`, six requests of 0.01 USD an hour where `is_logged` (days since their beginning) says so."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(round(days * 24 * PER_HOUR)):
        day = number / (24 * PER_HOUR)
        if is_logged(day):
            at = end - timedelta(days=days) + timedelta(hours=(number + 0.5) / PER_HOUR)
            lines.append(
                {
                    "attempt_id": f"a{number}",
                    "request_id": f"r{number}",
                    "started_at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                    "latency_ms": 900.0,
                    "model": "gpt-4o",
                    "provider": "openai",
                    "task_type": "chat",
                    "team": "data",
                    "prompt_tokens": 500,
                    "completion_tokens": 100,
                    "cost_usd": 0.01,
                    "status": "success",
                    "quality_score": 0.5 + 0.4 * (number % 2),
                }
            )
    (folder / "logs.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    home = Home(folder / "home").create()
    ingest_logs(home, str(folder / "logs.jsonl"), now_s=NOW_S)
    return home


Homes = Callable[..., Home]
SHORT_GAP, LONG_GAP = (1.5, 3.0), (8, 12.25)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """Homes of so many days, with a gap or whole; each made once, as nobody writes into them."""

    @functools.cache
    def made(days: int, gap: tuple[float, float] | None = None) -> Home:
        first, last = gap or (0.0, 0.0)
        return home_of(tmp_path_factory.mktemp("days"), days, lambda day: not first <= day < last)

    return made


def test_the_pace_of_few_days_is_that_of_the_days_there_are(homes: Homes) -> None:
    analyst = Analyst(homes(2))
    scope = analyst.scope(Parameters(timeframe="7d", budget=36.0))
    assert scope.covered_days == pytest.approx(2, rel=0.01)
    assert any("the logs cover" in notice for notice in scope.notices)
    assert analyst.answer("routing_costs", scope).per_day_usd == pytest.approx(24 * PER_HOUR * 0.01, rel=0.01)
    (total,) = analyst.answer("cost_drivers", scope).budgets
    assert (total.breached, total.used) == (True, pytest.approx(24 * PER_HOUR * 0.01 * 365.25 / 12 / 36.0, rel=0.01))


def test_dollars_per_day_do_not_depend_on_how_long_a_window_was_asked_for(homes: Homes) -> None:
    days, analyst = 20, Analyst(homes(20))
    for timeframe in ("7d", "30d"):
        scope = analyst.scope(Parameters(timeframe=timeframe, budget=36.0, budgets_by_team={"data": 60.0}))  # type: ignore[arg-type]
        length = {"7d": 7, "30d": 30}[scope.timeframe]
        assert scope.covered_days == pytest.approx(min(days, length), rel=0.01)
        assert any("the logs cover" in notice for notice in scope.notices) == (days < length)
        costs = analyst.answer("routing_costs", scope)
        assert costs.per_day_usd == pytest.approx(24 * PER_HOUR * 0.01, rel=0.01)
        plan = analyst.answer("cost_optimization_plan", scope)
        assert isinstance(plan.spend_usd, Estimate)
        assert plan.spend_usd.estimate == pytest.approx(30 * 24 * PER_HOUR * 0.01, rel=0.01)
        breaches = {each.of: each for each in analyst.answer("cost_drivers", scope).budgets}
        assert (breaches["total"].breached, breaches["data"].breached) == (True, False)
        assert breaches["total"].used == pytest.approx(24 * PER_HOUR * 0.01 * 365.25 / 12 / 36.0, rel=0.01)
        assert analyst.answer("routing_analytics", scope).throughput.mean_per_minute == pytest.approx(PER_HOUR / 60, rel=0.01)
        assert analyst.answer("request_patterns", scope).peaks.mean_per_hour == pytest.approx(PER_HOUR, rel=0.01)


@pytest.mark.parametrize(("days", "gap"), [(5, SHORT_GAP), (20, LONG_GAP)])
def test_a_gap_is_told_and_divided_by_nowhere(homes: Homes, days: int, gap: tuple[float, float]) -> None:
    first, last = gap
    analyst = Analyst(homes(days, gap))
    scope = analyst.scope(Parameters(timeframe="30d"))
    assert scope.covered_days == pytest.approx(days - (last - first), abs=0.05)
    assert any("hold nothing from" in notice for notice in scope.notices)
    assert analyst.answer("routing_costs", scope).per_day_usd == pytest.approx(24 * PER_HOUR * 0.01, rel=0.02)
    month = analyst.answer("budget_projection", scope).month
    assert month.observed_days == pytest.approx(min(days, 22) - (last - first), abs=0.1)


def test_nothing_is_silent_before_the_first_record_and_a_gap_is(homes: Homes) -> None:
    whole, holed = homes(2), homes(5, SHORT_GAP)
    silent = {}
    for name, home in (("whole", whole), ("holed", holed)):
        scope = Analyst(home).scope(Parameters(timeframe="30d"))
        checks = {each.name: each for each in check_suite("warning", home, scope, Lake(home), now_s=NOW_S)}
        silent[name] = checks["no_hour_is_silent"]
    assert (silent["whole"].outcome, silent["whole"].numbers["silent_hours"]) == ("passed", 0.0)
    # Six an hour are too few for one hour's silence to stand out.
    assert silent["holed"].numbers["missing_attempts"] == 0.0


def test_a_month_that_begins_in_the_window_counts_from_its_first(tmp_path: Path) -> None:
    """Logs from 24 November to 4 December: of December all so far, of November only the last week."""
    analyst = Analyst(home_of(tmp_path, 11, end=datetime(2026, 12, 5, tzinfo=UTC)))
    per_day = 24 * PER_HOUR * 0.01
    december = analyst.answer("routing_costs", analyst.scope(Parameters(timeframe="7d", budget=100.0)))
    assert december.month is not None
    assert (december.month.period, december.month.used_is) == ("2026-12", "spend so far")
    assert december.month.observed_usd == pytest.approx(4 * per_day)
    assert december.budgets[0].used == december.month.used
    assert isinstance(december.month.used, Estimate)
    assert december.month.used.estimate == pytest.approx(4 * per_day / 100.0)
    at_november = Parameters(timeframe="7d", budget=100.0, as_of=datetime(2026, 12, 1, tzinfo=UTC))
    november = analyst.answer("routing_costs", analyst.scope(at_november)).month
    assert november is not None
    assert (november.period, november.used_is, november.elapsed_days) == ("2026-11", "rate", pytest.approx(30.0))
    assert november.observed_days == pytest.approx(7.0, abs=0.05)
    assert isinstance(november.used, Estimate)
    assert november.used.estimate == pytest.approx(per_day * 365.25 / 12 / 100.0, rel=0.01)


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home of the demo's week and no more."""
    folder = tmp_path_factory.mktemp("young")
    write_weeks(folder, (8_000,))
    home = Home(folder / "home").create()
    ingest_logs(home, str(folder / "logs"), now_s=NOW_S)
    ingest_feedback(home, str(folder / "feedback"), now_s=NOW_S)
    return home


def figures(home: Home, timeframe: str, **asked: Any) -> dict[str, Any]:
    """Everything over time that is said of a home."""
    analyst = Analyst(home)
    scope = analyst.scope(Parameters.model_validate({"timeframe": timeframe, **asked}))
    costs, rules = analyst.answer("routing_costs", scope), analyst.answer("routing_rules", scope)
    plan, watch = analyst.answer("cost_optimization_plan", scope), analyst.answer("monitoring_plan", scope)
    roadmap = analyst.answer("optimization_plan", scope)
    return {
        "covered": scope.covered_days,
        "per day": costs.per_day_usd,
        "trend": costs.trend.model_dump(),
        "budgets": [each.model_dump() for each in costs.budgets],
        "breaches": [each.model_dump() for each in analyst.answer("cost_drivers", scope).budgets],
        "month": None if costs.month is None else costs.month.model_dump(),
        "rules": [rule.model_dump(include={"when", "route", "expected", "evidence"}) for rule in rules.rule_set.rules],
        "saving per day": rules.saving_usd_per_day.model_dump(),
        "cost plan": plan.model_dump(),
        "canary": [step.model_dump() for step in watch.steps],
        "exploration": None if watch.exploration is None else watch.exploration.model_dump(),
        "trials": [trial.model_dump() for trial in watch.trials],
        "payback": roadmap.payback.model_dump(),
        "throughput": analyst.answer("routing_analytics", scope).throughput.model_dump(),
        "peaks": analyst.answer("request_patterns", scope).peaks.model_dump(),
    }


def same(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two structures differ by more than the order of additions."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [each for key in one for each in same(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [each for place, (left, right) in enumerate(zip(one, other, strict=True)) for each in same(left, right, f"{path}/{place}")]
    equal = one == pytest.approx(other, rel=1e-6) if isinstance(one, float) and isinstance(other, float) else one == other
    return [] if equal else [f"{path}: {one} and {other}"]


def test_a_home_of_a_week_asked_for_30_days_answers_as_asked_for_7(young: Home) -> None:
    """The budget is near what is spent: a goal that may spend more keeps to it, whatever the window is called."""
    asked = {"goal": "quality", "budget": 230.0, "budgets_by_team": {"growth": 10.0, "data": 500.0}}
    assert same(figures(young, "7d", **asked), figures(young, "30d", **asked)) == []


def test_the_seeds_own_call_is_told_how_much_the_logs_cover(young: Home) -> None:
    answer = Answers(young).answer(BY_NAME["generate_cost_optimization_plan"], {"target_reduction": "20%", "timeframe": "30d"})
    assert any("the logs cover 7.0 days of it" in notice for notice in answer.about["notices"])
    assert "Dollars are over 30 days at the pace of the 7 days that the logs cover" in answer.text
