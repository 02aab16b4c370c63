"""What the command line prints of hostile names: one line, nothing that steers a terminal or hides from its reader."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from routing_pipeline.cli.main import _fail
from routing_pipeline.estimates import Unidentifiable
from routing_pipeline.recommendation.simulation import Simulation, TaskReplay
from routing_pipeline.report.headlines import headlines
from routing_pipeline.report.model import Report, report_json, rules_json
from routing_pipeline.report.simulated import lines
from routing_pipeline.rules.model import Expected, RelativeChange, cannot_tell
from routing_pipeline.text import visible
from tests.hostile_names import HOSTILE_NAMES


def is_inert(text: str) -> bool:
    """One line without control, formatting or direction-changing characters."""
    return not [each for each in text if unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"}]


@pytest.mark.parametrize("name", list(HOSTILE_NAMES.values()), ids=list(HOSTILE_NAMES))
def test_headlines_and_errors_are_short_plain_lines(worlds: SimpleNamespace, capsys: pytest.CaptureFixture[str], name: str) -> None:
    rules = worlds.proposing_nothing(reasons=(name,))
    for refusal in (None, name):
        report = worlds.assembled(worlds.scope_of(), worlds.evidence_of("B", refusal=refusal), rules)
        assert all(is_inert(line) and len(line) <= 600 for line in headlines(report))
    with pytest.raises(SystemExit):
        _fail(f"check failed: unknown model {name}", 3, debug=False)
    said = capsys.readouterr().err
    assert is_inert(said.removesuffix("\n"))
    assert len(said) < 4_100


@pytest.mark.parametrize("name", list(HOSTILE_NAMES.values()), ids=list(HOSTILE_NAMES))
def test_a_replay_is_told_in_plain_lines(worlds: SimpleNamespace, name: str) -> None:
    unknown = RelativeChange(relative=Unidentifiable(unidentifiable=name))
    change = worlds.expected().change.model_copy(update={"cost_usd": unknown})
    expected = Expected(baseline=worlds.expected().baseline, proposed=cannot_tell(name), change=change)
    told = Simulation(
        rule_set_id="given",
        requests=10,
        sessions=5,
        moved_share=0.5,
        expected=expected,
        completion_change=Unidentifiable(unidentifiable=name),
        by_task=(TaskReplay(task_type=name, requests=10, moved_share=0.5, expected=expected),),
        by_day=(),
        saving_usd=Unidentifiable(unidentifiable=name),
        unsupported=(f"rule r1, {name}: {name} never served",),
        verdict=f"The logs cannot tell: {name}.",
    )
    found = list(lines(told))
    assert all(is_inert(line) for line in found)
    assert len("\n".join(found)) < 12_000


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES.values() if len(name) < 1_000])
def test_json_holds_the_very_name_but_shows_nothing_hidden(full_of: Callable[[str], Report], name: str) -> None:
    report = full_of(name)
    for text in map(visible, (report_json(report).decode(), rules_json(report.routing_rule_set).decode())):
        assert is_inert(text.replace("\n", ""))
        assert json.dumps(name)[1:-1] in json.dumps(json.loads(text))
