"""What changed since the last report of the same question: found, compared, said; and said when there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.realized_outcomes import PromiseKept, RealizedOutcomes, RealizedRuleSet
from routing_pipeline.report.comparison import last_report, since_last, with_last
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import FIRST, Report, report_json
from routing_pipeline.storage.files import FolderStorage
from routing_pipeline.storage.runs import RunStore

Reports = dict[str, Callable[[], Report]]
WEEK_S = 7 * 86_400


@pytest.fixture
def made(worlds: SimpleNamespace) -> Callable[..., Report]:
    """A report of the week that begins so many weeks later, under a run's id; spend and cost as given."""

    def make(run_id: str, weeks: float, *, per_day: float = 200.0, cost: float = 0.005, rules: Any = None, **asked: Any) -> Report:
        plain = worlds.scope_of(Parameters(**asked))
        scope = plain.model_copy(update={"start_s": plain.start_s + weeks * WEEK_S, "end_s": plain.end_s + weeks * WEEK_S})
        report: Report = worlds.assembled(scope, worlds.evidence_of("B"), rules or worlds.proposing("B"))
        costs = report.routing_costs.model_copy(update={"per_day_usd": per_day, "per_request_usd": worlds.around(cost, 0.0001)})
        return report.model_copy(update={"routing_costs": costs, "run": report.run.model_copy(update={"run_id": run_id})})

    return make


def kept(folder: Path, *reports: Report) -> RunStore:
    store = RunStore(FolderStorage(folder))
    for report in reports:
        store.begin(report.run.run_id, report.scope.key)
        store.keep(report.run.run_id, report, None, {})
    return store


def test_the_first_report_says_that_it_is_the_first(made: Callable[..., Report], tmp_path: Path) -> None:
    now = with_last(made("now", 0), RunStore(FolderStorage(tmp_path)))
    assert now.since_last_report.verdict == FIRST
    assert now.since_last_report.run_id is None
    for text in (report_markdown(now), report_html(now)):
        assert "This is the first report of this question in this home" in text


def test_the_last_report_is_the_newest_of_an_earlier_window_and_of_the_same_question(made: Callable[..., Report], tmp_path: Path) -> None:
    now = made("now", 3)
    older, last, same = made("older", 1), made("last", 2), made("same-window", 3)
    other = made("other-question", 2.5, goal="cost")
    longer = made("longer", 2.5, timeframe="30d").model_copy(
        update={"scope": made("longer", 2.5).scope.model_copy(update={"timeframe_asked": "30d"})}
    )
    store = kept(tmp_path, older, last, other, longer, same)
    found = last_report(store, now)
    assert found is not None
    assert found.run.run_id == "last"


def test_a_report_that_another_version_wrote_is_passed_over(made: Callable[..., Report], tmp_path: Path) -> None:
    store = kept(tmp_path, made("readable", 0), made("unreadable", 1))
    (tmp_path / "unreadable" / "report.json").write_text('{"of": "another shape"}')
    found = last_report(store, made("now", 2))
    assert found is not None
    assert found.run.run_id == "readable"


def test_spend_cost_and_rules_are_set_side_by_side(made: Callable[..., Report], worlds: SimpleNamespace) -> None:
    before = made("before", 0, per_day=200.0, cost=0.005)
    fewer = worlds.proposing("B")
    only_one = fewer.rule_set.model_copy(update={"rule_set_id": "2026-11-30T00:00:00Z-aaaa", "rules": fewer.rule_set.rules[:1]})
    now = made("now", 0.5, per_day=150.0, cost=0.00501, rules=fewer.model_copy(update={"rule_set": only_one, "impacts": ()}))
    found = since_last(now, before)
    moved = {each.metric: each for each in found.moved}
    assert (moved["spend_per_day"].verdict, moved["spend_per_day"].difference.estimate) == ("lower", -50.0)
    assert moved["cost_per_request"].verdict == "no difference shown"
    assert moved["requests_per_day"].verdict == "the same"
    assert moved["quality"].verdict == "cannot tell"
    assert isinstance(moved["quality"].difference, Unidentifiable)
    assert found.rules is not None
    assert (found.rules.kept, found.rules.added, found.rules.dropped) == (1, 0, 1)
    assert found.overlap_days == pytest.approx(3.5)
    assert (
        found.verdict
        == "Spend per day lower by 25.0 %, cost per request: no difference shown, quality: cannot tell; of the rules, 0 are new, 1 removed and 1 unchanged."
    )


def test_a_promise_is_said_with_what_came_of_it(made: Callable[..., Report], worlds: SimpleNamespace) -> None:
    before, now = made("before", 0), made("now", 1)
    waiting = since_last(now, before).promised
    assert waiting is not None
    assert waiting.saving_usd_per_day.estimate == 44.0
    assert "there is no outcome to compare with the promise" in waiting.came_of_it
    value = worlds.around(0.003, 0.0001)
    outcome = PromiseKept(outcome="cost_usd", promised=value, measured=value, difference=worlds.around(0.0, 0.0001), verdict="kept")
    held = RealizedRuleSet(
        rule_set_id=before.routing_rule_set.rule_set_id,
        promised_on="2026-11-23T00:00:00Z",
        requests=5_000,
        share=0.25,
        days=6.0,
        outcomes=(outcome,),
        rules=(),
        missed=(),
    )
    measured = now.model_copy(update={"realized_outcomes": RealizedOutcomes(rule_sets=(held,), waiting=(), verdict="kept")})
    found = since_last(measured, before).promised
    assert found is not None
    assert found.came_of_it == "5,000 requests were decided by them (25.0 % of all): cost kept."


def test_no_rules_then_promised_nothing(made: Callable[..., Report], worlds: SimpleNamespace) -> None:
    nothing = worlds.proposing_nothing()
    found = since_last(made("now", 1, rules=nothing), made("before", 0, rules=nothing))
    assert found.promised is None
    assert found.verdict.endswith("no rules are proposed, as before.")


def test_it_stands_in_all_three_documents_and_is_rebuilt_from_the_stored_report(made: Callable[..., Report], tmp_path: Path) -> None:
    now = with_last(made("now", 1, per_day=300.0), kept(tmp_path, made("before", 0)))
    assert now.since_last_report.run_id == "before"
    assert b'"since_last_report"' in report_json(now)
    for text in (report_markdown(now), report_html(now)):
        assert "Spend per day higher by 50.0" in text
        assert "a saving of" in text
    assert Report.model_validate_json(now.model_dump_json()) == now


def test_short_windows_are_said_to_hold_other_days(made: Callable[..., Report]) -> None:
    assert since_last(made("now", 1), made("before", 0)).notices == ()
    before, now = made("before", 0), made("now", 1)
    shorter = now.model_copy(update={"scope": now.scope.model_copy(update={"start_s": now.scope.end_s - 86_400, "timeframe": "24h"})})
    assert len(since_last(shorter, before).notices) == 2
