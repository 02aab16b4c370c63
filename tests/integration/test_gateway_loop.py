"""The loop through a running gateway: an export, the LiteLLM proxy, its own S3 logger, a store, the report, the next step, a roll-back."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import litellm_proxy
import pytest
import s3_server
from litellm_proxy import Proxy, Upstream

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Estimate
from routing_pipeline.gateways.litellm_api import LiteLLMApi
from routing_pipeline.gateways.rollout import Rollout
from routing_pipeline.gateways.rollout_looks import look_at
from routing_pipeline.gateways.rollout_settings import RolloutSettings
from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.canary import CanaryLook
from routing_pipeline.rules.deciding import decided
from routing_pipeline.rules.model import Constraints, RuleSet
from routing_pipeline.rules.record import record_of
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine

PYTHON = os.environ.get("ROUTING_PIPELINE_LITELLM_PYTHON", "")
pytestmark = pytest.mark.skipif("LOOP" not in os.environ or not PYTHON, reason="takes minutes and LiteLLM's proxy; make loop")
BUCKET, TODAY, CHEAP = "gateway-logs", "gpt-4o", "gpt-4o-mini"
READS_RULES_AGAIN_S = 6.0
WHY = "the days of this step are made short here"


class Loop:
    """A home, a bucket that the gateway logs into, and what drives both."""

    def __init__(self, folder: Path, rule_set: RuleSet, told: Upstream, key: str) -> None:
        self.home, self.gateway, self.scores = Home(folder / "home").create(), folder / "gateway", folder / "scores"
        self.gateway.mkdir()
        self.scores.mkdir()
        self.rule_set, self.upstream, self.key = rule_set, told, key
        self.sessions = 0
        self.record = record_of(self.home)
        self.record.propose(rule_set, 0.6, 0.7)
        self.record.approve(rule_set.rule_set_id, "Ada")
        self.record.publish(rule_set.rule_set_id, "Ada")
        self.current = folder / "today.yaml"
        self.current.write_text(configuration(told.url))

    def rollout(self, api: str = "") -> Rollout:
        settings = RolloutSettings(
            automatic=True,
            gateway="litellm",
            current=str(self.current),
            to=str(self.gateway),
            default_model=TODAY,
            api=api,
        )
        return Rollout(self.home, self.record, settings)

    def look(self, found: Rollout) -> CanaryLook | None:
        live = found.live()
        if live is None or not live[1].steps:
            return None
        with open_engine() as engine:
            return look_at(self.home, engine, Parameters(), *live)

    def advance(self, api: str) -> float:
        """The next step, as a person takes it; the gateway has read it when this returns."""
        found = self.rollout(api)
        share = found.advance("Ada", WHY, self.look(found)).share
        time.sleep(READS_RULES_AGAIN_S)
        return share

    def traffic(self, proxy: Proxy, sessions: int) -> list[str]:
        """So many sessions of two requests each; their logs and scores are read when this returns. Gives the sessions."""
        names = [f"session-{self.sessions + number}" for number in range(sessions)]
        self.sessions += sessions
        asked = [{"task_type": "code", "complexity": 0.1, "session_id": each} for each in names for _ in range(2)]
        answers = proxy.ask("smart-router", asked)
        scores = [
            {
                "request_id": each.call_id,
                "name": "quality",
                "value": 0.9 if each.content == "good" else 0.3,
                "source": "judge",
                "scored_at": time.time(),
            }
            for each in answers
        ]
        (self.scores / f"{self.sessions}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in scores))
        ingest_feedback(self.home, str(self.scores))
        wanted = {each.call_id for each in answers}
        deadline = time.monotonic() + 60
        while True:
            ingest_logs(self.home, f"s3://{BUCKET}/prod")
            if wanted <= self.logged():
                return names
            assert time.monotonic() < deadline, f"{len(wanted - self.logged())} of {len(wanted)} requests are not in the logs"
            time.sleep(1)

    def logged(self) -> set[str]:
        files = Lake(self.home).attempt_files(0.0, time.time() + 3600)
        if not files:
            return set()
        with open_engine() as engine:
            return set(engine.read_parquet(files).select("request_id").to_pyarrow()["request_id"].to_pylist())


def configuration(url: str) -> str:
    """What the gateway runs with today: two models of one provider, and a bucket for its logs."""
    models = "".join(
        f"  - {{model_name: {name}, litellm_params: {{model: openai/{name}, api_base: '{url}', api_key: none}}}}\n"
        for name in (TODAY, CHEAP)
    )
    return f"""model_list:
{models}litellm_settings:
  callbacks: [s3_v2]
  s3_callback_params:
    s3_bucket_name: {BUCKET}
    s3_path: prod
    s3_region_name: us-east-1
    s3_endpoint_url: os.environ/AWS_ENDPOINT_URL
    s3_aws_access_key_id: os.environ/AWS_ACCESS_KEY_ID
    s3_aws_secret_access_key: os.environ/AWS_SECRET_ACCESS_KEY
    s3_batch_file_upload: true
general_settings: {{master_key: os.environ/LITELLM_MASTER_KEY}}
"""


@pytest.fixture
def store(swift_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The bucket, and how a client finds it."""
    key, secret = s3_server.OWNER
    found = {
        "AWS_ENDPOINT_URL": swift_endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3")
    if BUCKET not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BUCKET)
    return found


@pytest.fixture
def loop(tmp_path: Path, worlds: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    made = worlds.proposing().rule_set
    rule = made.rules[0].model_copy(update={"when": made.rules[0].when.model_copy(update={"task_type": ("code",)})})
    rules = made.model_copy(update={"rules": (rule,), "constraints": Constraints(max_quality_drop=0.05)})
    key = f"sk-{secrets.token_hex(16)}"
    monkeypatch.setenv("LITELLM_MASTER_KEY", key)
    with litellm_proxy.upstream() as told:
        yield Loop(tmp_path, rules, told, key)


def models_by_session(loop: Loop, names: list[str]) -> dict[str, Any]:
    with open_engine() as engine:
        rows = engine.read_parquet(Lake(loop.home).attempt_files(0.0, time.time() + 3600))
        rows = rows.filter(rows.session_id.isin(names)).select("session_id", "rule_arm", "model").distinct()
        found = rows.to_pyarrow().to_pylist()
    assert len(found) == len(names), "a session keeps its arm"
    return {each["session_id"]: each for each in found}


def test_the_loop_closes_through_the_gateway_and_a_planted_fall_is_taken_back(loop: Loop, store: dict[str, str]) -> None:
    assert loop.rollout().go(None).share == 0.01, "the first step is taken by itself; the configuration is exported"
    with litellm_proxy.proxy(PYTHON, loop.gateway, loop.key, store) as proxy:
        while loop.advance(proxy.url) < 0.25:
            pass
        names = loop.traffic(proxy, 400)
        told = models_by_session(loop, names)
        for name in names:
            ours = decided(loop.rule_set, {"task_type": "code", "complexity": 0.1}, name, share=0.25, own=TODAY)
            assert told[name]["rule_arm"] == ours.arm
            assert told[name]["model"] == (CHEAP if ours.arm == CHEAP else TODAY)
        parameters = Parameters(timeframe="1h")
        given = {"promised": loop.record.promised()}
        realized = Analyst(loop.home).answer("realized_outcomes", Analyst(loop.home).scope(parameters), given=given)
        assert realized.rule_sets[0].design == "randomised"
        cost = next(each for each in realized.rule_sets[0].against_control if each.outcome == "cost_usd")
        assert isinstance(cost.difference, Estimate)
        assert cost.difference.high < 0
        assert loop.advance(proxy.url) == 0.5, "the next step"
        loop.upstream.worse.add(CHEAP)
        loop.traffic(proxy, 300)
        found = loop.rollout(proxy.url)
        done = found.go(loop.look(found))
        assert done is not None
        assert (done.change, loop.record.live()) == ("roll_back", None)
        assert "quality of the canary less its control" in done.because
        assert (loop.gateway / "config.yaml").read_text() == loop.current.read_text()
        time.sleep(READS_RULES_AGAIN_S)
        loop.upstream.asked.clear()
        loop.traffic(proxy, 50)
        assert set(loop.upstream.asked) == {TODAY}, "the gateway that still runs follows nobody's rules"


def test_what_the_gateway_itself_would_not_load_is_not_recorded(loop: Loop, store: dict[str, str]) -> None:
    loop.rollout().go(None)
    with litellm_proxy.proxy(PYTHON, loop.gateway, loop.key, store) as proxy:
        api = LiteLLMApi(proxy.url, loop.key)
        assert api.refused({"classifier_type": "heuristic", "tiers": {"SIMPLE": 7}}) is not None
        text = loop.current.read_text()
        unusable = "  - {model_name: smart-router, litellm_params: {model: auto_router/complexity_router, complexity_router_config: {tier_distance_penalty: much}}}\n"
        loop.current.write_text(text.replace("litellm_settings:", unusable + "litellm_settings:"))
        found = loop.rollout(proxy.url)
        before = found.steps.transitions()
        with pytest.raises(UnusableInputError, match="LiteLLM would not load"):
            found.advance("Ada", WHY, None)
        assert found.steps.transitions() == before
        loop.current.write_text(text)
        assert found.status(None).is_loaded is True, "the proxy began with what was exported"
