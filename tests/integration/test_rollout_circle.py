"""The whole circle: a step is written, a gateway follows it and logs, the logs are read, the next step follows; a fall of quality takes it back."""

from __future__ import annotations

import copy
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from routing_pipeline.estimates import Estimate
from routing_pipeline.gateways.rollout import Rollout
from routing_pipeline.gateways.rollout_looks import look_at
from routing_pipeline.gateways.rollout_settings import RolloutSettings
from routing_pipeline.ingest.ingestion import ingest_logs
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.deciding import CONTROL, Decision, decided
from routing_pipeline.rules.model import Constraints, RuleSet
from routing_pipeline.rules.record import record_of
from routing_pipeline.rules.rollout_record import Transition
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine

pytestmark = pytest.mark.skipif("LOOP" not in os.environ, reason="takes a minute; make loop")

TODAY = "gpt-4o"
SESSIONS_A_DAY = 500
BASE: dict[str, Any] = {
    "id": "",
    "litellm_call_id": "",
    "trace_id": "",
    "session_id": "",
    "call_type": "acompletion",
    "status": "success",
    "custom_llm_provider": "openai",
    "response_cost": 0.01,
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "request_tags": ["task:code"],
    "metadata": {"user_api_key_request_route": "/v1/chat/completions", "requester_metadata": {}},
    "hidden_params": {"additional_headers": {"x-litellm-attempted-retries": 0, "x-litellm-attempted-fallbacks": 0}},
}


class Circle:
    """A home, a gateway that follows what is written, and a clock that began thirty days ago."""

    def __init__(self, tmp_path: Path, rule_set: RuleSet) -> None:
        self.home, self.logs, self.out = Home(tmp_path / "home").create(), tmp_path / "logs", tmp_path / "gateway"
        self.logs.mkdir()
        self.rule_set = rule_set
        self.now = datetime.now(UTC) - timedelta(days=30)
        self.record = record_of(self.home)
        self.record.propose(rule_set, 0.6, 0.7, now=self.now)
        self.record.approve(rule_set.rule_set_id, "Ada", now=self.now)
        self.record.publish(rule_set.rule_set_id, "Ada", now=self.now)
        self.rng = np.random.default_rng(8)

    def look_and_go(self) -> Transition | None:
        """One look of the asset."""
        found = Rollout(self.home, self.record, RolloutSettings(automatic=True, gateway="json-logic", to=str(self.out)))
        live = found.live()
        look = None
        if live is not None and live[1].steps:
            with open_engine() as engine:
                look = look_at(self.home, engine, Parameters(), *live)
        return found.go(look, now=self.now)

    def traffic(self, days: float, fall: float = 0.0) -> None:
        """Sessions of two requests, decided as the written configuration says, logged and read."""
        written = json.loads((self.out / "routing_rules.json").read_text())
        share = written["share"]["of"]
        records = []
        for number in range(int(days * SESSIONS_A_DAY)):
            began = self.now + timedelta(days=days * (number + 0.5) / (days * SESSIONS_A_DAY))
            # No date in it: sessions draw their arm by their name.
            session = f"{share}-{fall}-{number}"
            decision = decided(self.rule_set, {"task_type": "code"}, session, share=share)
            records += [self._logged(decision, session, call, began.timestamp() + call, fall) for call in range(2)]
        (self.logs / f"{self.now:%Y-%m-%d}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
        self.now += timedelta(days=days)
        ingest_logs(self.home, str(self.logs), now_s=self.now.timestamp())

    def _logged(self, decision: Decision, session: str, call: int, start_s: float, fall: float) -> dict[str, Any]:
        is_canary = decision.arm not in {None, CONTROL}
        record = copy.deepcopy(BASE)
        key, model = f"{session}-{call}", decision.arm if is_canary else TODAY
        record |= {"id": key, "litellm_call_id": key, "trace_id": key, "session_id": session, "model": model, "model_group": model}
        record |= {
            "startTime": start_s,
            "endTime": start_s + 0.5,
            "completionStartTime": start_s + 0.5,
            "response_cost": 0.004 if is_canary else 0.01,
        }
        rule = f"{self.rule_set.rule_set_id}/{decision.rule_id}" + ("" if is_canary else "/control")
        quality = float(np.clip(0.85 - fall * is_canary + self.rng.normal(0, 0.1), 0, 1))
        record["metadata"]["requester_metadata"] = {
            "routing_rule_id": rule,
            "arm": decision.arm,
            "quality_score": quality,
            "task_type": "code",
        }
        return record


@pytest.fixture
def circle(tmp_path: Path, worlds: SimpleNamespace) -> Circle:
    made = worlds.proposing().rule_set
    rule = made.rules[0].model_copy(update={"when": made.rules[0].when.model_copy(update={"task_type": ("code",), "complexity": None})})
    return Circle(tmp_path, made.model_copy(update={"rules": (rule,), "constraints": Constraints(max_quality_drop=0.05)}))


def test_steps_follow_the_logs_and_a_planted_fall_is_taken_back(circle: Circle) -> None:
    assert circle.look_and_go().share == 0.01
    assert circle.look_and_go() is None, "nothing was logged yet"
    circle.traffic(2.1)
    assert circle.look_and_go().share == 0.05
    circle.traffic(5.1)
    assert circle.look_and_go().share == 0.25
    circle.traffic(1)
    assert circle.look_and_go() is None
    scope = Analyst(circle.home).scope(Parameters(timeframe="30d"))
    promised = circle.record.promised()
    realized = Analyst(circle.home).answer("realized_outcomes", scope, given={"promised": promised})
    assert realized.rule_sets[0].design == "randomised"
    cost = next(each for each in realized.rule_sets[0].against_control if each.outcome == "cost_usd")
    assert isinstance(cost.difference, Estimate)
    assert cost.difference.estimate == pytest.approx(-0.006, abs=1e-4)
    evidence = Analyst(circle.home).answer("routing_evidence", scope)
    assert evidence.propensity_check, "what was published is known of the logs"
    circle.traffic(1, fall=0.3)
    done = circle.look_and_go()
    assert (done.change, circle.record.live()) == ("roll_back", None)
    assert "quality of the canary less its control" in done.because
    assert json.loads((circle.out / "routing_rules.json").read_text())["rule_set_id"] is None
    assert circle.look_and_go() is None
