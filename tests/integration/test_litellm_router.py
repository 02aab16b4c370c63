"""LiteLLM's own Router loads the export: it decides as we do, splits as told, falls back, and its log reads back."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.gateways.litellm import write
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.deciding import CONTROL, decided
from routing_pipeline.rules.reading import read_given_rules
from tests.ingest.reading import NOW_S, json_lines, read_logs

PYTHON = os.environ.get("ROUTING_PIPELINE_LITELLM_PYTHON") or (sys.executable if find_spec("litellm") else "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="LiteLLM is not installed here: `make loop` runs this with an environment of its own")
CALLS, SHARE, OWN = 2_000, 0.5, "gpt-4o"
RULES = read_given_rules(
    [
        {
            "when": {"task_type": ["code"], "complexity": {"gte": 0.5}},
            "route": [{"model": "gpt-4o-mini", "weight": 0.7}, {"model": "claude-haiku-4-5", "weight": 0.3}],
            "fallbacks": ["gpt-4o"],
        },
        {"per": "session", "when": {"prompt_tokens": {"lt": 500}, "has_image": False}, "route": "gpt-4o-mini"},
        {"when": {"team": ["growth"]}, "route": "unchanged"},
    ],
    Parameters(),
)


def made_up(count: int) -> list[dict[str, Any]]:
    draw = random.Random(5)  # noqa: S311  made-up traffic
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    asked = []
    for place in range(count):
        labels = {"task_type": draw.choice(["code", "chat"]), "complexity": round(draw.random(), 3), "team": draw.choice(["growth", "ops"])}
        text = "x" * draw.choice([40, 4_000])
        content: Any = text if draw.random() < 0.8 else [{"type": "text", "text": text}, *image]
        asked.append({"metadata": {**labels, "session_id": f"s{place // 4}"}, "messages": [{"role": "user", "content": content}]})
    return asked


def fields(request: dict[str, Any]) -> dict[str, Any]:
    """What the gateway can know of a request, worked out without it."""
    content = request["messages"][0]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    return {**request["metadata"], "prompt_tokens": -(-len(text) // 4), "has_image": not isinstance(content, str), "has_audio": False}


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[Any], dict[str, Any]]:
    """The requests, our decisions, and what LiteLLM did and logged; claude-haiku-4-5 is down."""
    folder = tmp_path_factory.mktemp("gateway")
    write(plan_of(RULES, SHARE), None, OWN).written(folder)
    asked = made_up(CALLS)
    given = json.dumps({"asked": asked, "failing": "claude-haiku-4-5"})
    driver = Path(__file__).with_name("litellm_router.py")
    run = subprocess.run([PYTHON, str(driver), str(folder)], input=given, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    firsts: dict[str, dict[str, Any]] = {}
    ours = []
    for request in asked:
        session = request["metadata"]["session_id"]
        firsts.setdefault(session, fields(request))
        ours.append(decided(RULES, fields(request), session, share=SHARE, first=firsts[session], own=OWN))
    return asked, ours, json.loads(run.stdout)


def test_every_decision_is_ours(routed: Any) -> None:
    _, ours, theirs = routed
    for decision, told in zip(ours, theirs["told"], strict=True):
        rule_id = told["metadata"].get("routing_rule_id")
        assert (rule_id and rule_id.split("/")[1], told["metadata"].get("arm")) == (decision.rule_id, decision.arm)
        assert told["metadata"].get("propensity") == pytest.approx(decision.propensity)


def test_the_model_of_the_arm_answers_and_one_that_is_down_falls_back(routed: Any) -> None:
    _, ours, theirs = routed
    for decision, told in zip(ours, theirs["told"], strict=True):
        serves = decision.arm if decision.arm == "gpt-4o-mini" else OWN
        assert told["answered_by"] == f"openai/{serves}"
    assert sum(decision.arm == "claude-haiku-4-5" for decision in ours) > 50


def test_arms_split_as_the_share_and_the_weights_say(routed: Any) -> None:
    _, ours, _ = routed
    arms = Counter(decision.arm for decision in ours if decision.rule_id == "r1")
    total = sum(arms.values())
    # Sessions are drawn, of up to four requests each.
    for arm, share in (("gpt-4o-mini", 0.35), ("claude-haiku-4-5", 0.15), (CONTROL, 0.5)):
        assert abs(arms[arm] - total * share) < 4 * (4 * total * share * (1 - share)) ** 0.5


def test_sessions_keep_their_arm(routed: Any) -> None:
    asked, _, theirs = routed
    arms: dict[tuple[str, str], set[str]] = {}
    for request, told in zip(asked, theirs["told"], strict=True):
        if told["metadata"].get("arm"):
            key = (request["metadata"]["session_id"], told["metadata"]["routing_rule_id"].split("/")[1])
            arms.setdefault(key, set()).add(told["metadata"]["arm"])
    assert all(len(each) == 1 for each in arms.values())


def test_the_log_reads_back_with_rule_arm_and_propensity(routed: Any, tmp_path: Path) -> None:
    _, ours, theirs = routed
    for record in theirs["logged"]:
        # The tests' clock stands still.
        late = record["startTime"] - NOW_S + 3600
        record.update({name: record[name] - late for name in ("startTime", "endTime", "completionStartTime")})
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gateway.jsonl").write_bytes(json_lines(theirs["logged"]))
    rows = read_logs(tmp_path / "logs", tmp_path / "home").rows
    expected: Counter[Any] = Counter()
    for decision in ours:
        rule = None if decision.rule_id is None else f"{RULES.rule_set_id}/{decision.rule_id}"
        rule = f"{rule}/{CONTROL}" if decision.arm == CONTROL else rule
        serves = decision.arm if decision.arm == "gpt-4o-mini" else OWN
        chance = None if decision.propensity is None else round(decision.propensity, 9)
        expected[rule, decision.arm, chance, serves] += 1
    found = Counter(
        (row["routing_rule_id"], row["rule_arm"], row["propensity"] and round(row["propensity"], 9), row["model"]) for row in rows
    )
    assert found == expected
