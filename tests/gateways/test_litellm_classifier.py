"""The classifier inside LiteLLM: what it does with rules that it cannot use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.gateways import litellm_classifier
from routing_pipeline.gateways.litellm_classifier import Classifier

RULE = {"id": "r1", "priority": 1, "per": "request", "when": {"task_type": ["code"]}, "route": "unchanged", "tiers": {"unchanged": "t"}}
RULES: dict[str, Any] = {"rule_set_id": "s", "share": 1, "own": None, "rules": [RULE]}


@pytest.mark.parametrize(
    "spoilt",
    [
        "",
        "[]",
        "{}",
        json.dumps({**RULES, "rules": [{**RULE, "when": ["task_type"]}]}),
        json.dumps({**RULES, "rules": [{**RULE, "route": []}]}),
        json.dumps({**RULES, "rules": [{**RULE, "route": 3}]}),
        json.dumps({**RULES, "rules": [{**RULE, "when": {"complexity": 3}}]}),
        '{"rules": ' + "[" * 100_000,
    ],
)
def test_a_file_that_cannot_be_used_leaves_the_rules_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: str) -> None:
    monkeypatch.setattr(litellm_classifier, "LOOKS_AGAIN_AFTER_S", 0.0)
    path = tmp_path / "routing_rules.json"
    path.write_text(json.dumps(RULES))
    classifier = Classifier(str(path))
    assert classifier.decide({"task_type": "code"})[0] == "t"
    path.write_text(spoilt)
    assert classifier.decide({"task_type": "code"})[0] == "t"
    path.write_text(json.dumps({**RULES, "rules": []}))
    assert classifier.decide({"task_type": "code"})[0] is None
