"""Files of rules as people have them: other encodings, other versions, things said twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.model import RuleSet, rules_json
from routing_pipeline.rules.reading import read_given_rules, read_rules_file

BY_HAND = [{"when": {"task_type": ["zusammenfassung für alle"]}, "route": "gpt-4o-mini"}]


def read(folder: Path, content: bytes) -> RuleSet:
    path = folder / "rules.json"
    path.write_bytes(content)
    return read_rules_file(path, Parameters())


def whole(**changed: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(rules_json(read_given_rules(BY_HAND, Parameters())))
    return {**content, **changed}


@pytest.mark.parametrize("content", [BY_HAND, whole(rule_set_id="mine")])
def test_names_are_read_as_they_were_written_or_not_at_all(tmp_path: Path, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False)
    marked, plain = (read(tmp_path, text.encode(encoding)) for encoding in ("utf-8-sig", "utf-8"))
    assert marked == plain
    for encoding in ("latin-1", "utf-16"):
        with pytest.raises(UnusableInputError, match="no text in UTF-8"):
            read(tmp_path, text.encode(encoding))


@pytest.mark.parametrize("version", [0, 3, "2", 2.5, [2]])
def test_another_version_is_not_followed_as_if_it_were_written_by_hand(tmp_path: Path, version: Any) -> None:
    for content in (whole(schema_version=version), {"rule_set": whole(schema_version=version)}):
        with pytest.raises(UnusableInputError, match="schema_version: this version of routing-pipeline reads 1 and 2"):
            read(tmp_path, json.dumps(content).encode())


def test_what_is_said_twice_is_refused_and_does_not_lose_a_rule_its_conditions(tmp_path: Path) -> None:
    twice = json.dumps(whole()).replace('"when": {', '"when": {"team": ["growth"]}, "when": {')
    for text in ('[{"when": {"task_type": "code"}, "when": {}, "route": "gpt-4o"}]', twice):
        with pytest.raises(UnusableInputError, match='"when" stands twice'):
            read(tmp_path, text.encode())


@pytest.mark.parametrize("place", ["id", "route", "fallbacks", "task_type"])
def test_half_of_a_character_is_refused_before_it_reaches_a_file(tmp_path: Path, place: str) -> None:
    half = chr(0xD800)
    rule = {"when": {"task_type": [half]}, "route": "m"} if place == "task_type" else {"when": {}, "route": "m", place: half}
    text = json.dumps([{**rule, "fallbacks": [half]} if place == "fallbacks" else rule])
    with pytest.raises(UnusableInputError, match="half of a character"):
        read(tmp_path, text.encode())
