"""Asking a LiteLLM proxy, and what its refusals and its silence mean."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.gateways.litellm_api import LiteLLMApi
from routing_pipeline.gateways.rollout import Rollout
from routing_pipeline.gateways.rollout_settings import RolloutSettings, read_rollout
from routing_pipeline.rules.record import record_of
from routing_pipeline.rules.tiers import plain_models
from routing_pipeline.storage.home import Home

VALIDATING = "/auto_router/validate_complexity_router_config"
CONFIGURATION = """model_list:
- {model_name: smart-router, litellm_params: {model: auto_router/complexity_router, complexity_router_config: {classifier_type: custom, classifier_plugin: ours.classifier, tiers: {a: m, b: m}}}}
"""


class Gateway:
    """Answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url, self.status, self.asked = "", 200, list[tuple[str, Any]]()
        self.answers: dict[str, Any] = {VALIDATING: {"valid": True, "error": None}}


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    told = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.asked.append((self.headers["Authorization"], json.loads(body) if body else None))
            content = json.dumps(told.answers.get(self.path, {})).encode()
            self.send_response(told.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            """Nothing is said."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield told
    server.shutdown()


def test_the_router_of_the_configuration_is_what_is_asked_about(gateway: Gateway) -> None:
    LiteLLMApi(gateway.url, "sk-1").check(CONFIGURATION)
    told = {"classifier_type": "llm", "classifier_llm_config": {"model": "m"}, "tiers": {"a": "m", "b": "m"}}
    assert gateway.asked == [("Bearer sk-1", {"complexity_router_config": told})], "LiteLLM takes no classifier over its interface"


@pytest.mark.parametrize(
    ("status", "answer", "error", "why"),
    [
        (200, {"valid": False, "error": "tiers: one is missing"}, UnusableInputError, "LiteLLM would not load this: tiers: one is missing"),
        (200, {}, UnusableInputError, "it gives no reason"),
        (401, {}, UnusableInputError, "does not accept the key in LITELLM_MASTER_KEY"),
        (404, {}, UnusableInputError, "cannot be asked"),
        (500, {}, ServiceUnavailableError, "answered 500"),
        (200, ["no object"], ServiceUnavailableError, "is it LiteLLM"),
    ],
)
def test_what_cannot_be_loaded_or_asked_is_said(gateway: Gateway, status: int, answer: Any, error: type[Exception], why: str) -> None:
    gateway.status, gateway.answers = status, {VALIDATING: answer}
    with pytest.raises(error, match=why):
        LiteLLMApi(gateway.url, "sk-1").check(CONFIGURATION)


def test_a_gateway_that_is_not_there_is_out_of_reach() -> None:
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        LiteLLMApi("http://127.0.0.1:1", "sk-1").check(CONFIGURATION)


def test_what_runs_is_known_by_its_tiers(gateway: Gateway) -> None:
    def running(tiers: dict[str, str]) -> bool:
        gateway.answers["/model/info"] = {"data": [{"litellm_params": {"complexity_router_config": {"tiers": tiers}}}]}
        return LiteLLMApi(gateway.url, "sk-1").has_loaded(CONFIGURATION)

    assert running({"a": "m", "b": "m", "c": "m"})
    assert not running({"a": "m"})


def test_a_step_that_the_gateway_would_not_load_is_neither_recorded_nor_written(
    gateway: Gateway, tmp_path: Path, worlds: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule_set = worlds.proposing().rule_set
    home, current = Home(tmp_path / "home").create(), tmp_path / "config.yaml"
    named = "".join(f"- {{model_name: {each}, litellm_params: {{model: openai/{each}}}}}\n" for each in plain_models(rule_set))
    current.write_text(f"model_list:\n{named}")
    record = record_of(home)
    record.propose(rule_set, 0.6, 0.7)
    record.approve(rule_set.rule_set_id, "Ada")
    record.publish(rule_set.rule_set_id, "Ada")
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-1")
    settings = RolloutSettings(gateway="litellm", current=str(current), to=str(tmp_path / "out"), api=gateway.url)
    gateway.answers = {VALIDATING: {"valid": False, "error": "no such tier"}}
    with pytest.raises(UnusableInputError, match="no such tier; nothing was recorded or written"):
        Rollout(home, record, settings).advance("Ada", "", None)
    assert not Rollout(home, record, settings).steps.transitions()
    assert not (tmp_path / "out").exists()
    gateway.answers = {VALIDATING: {"valid": True}}
    Rollout(home, record, settings).advance("Ada", "", None)
    asked = len(gateway.asked)
    Rollout(home, record, settings).roll_back("Ada", "an incident", None)
    assert len(gateway.asked) == asked, "the way back waits for nobody"


@pytest.mark.parametrize(
    "text", ['gateway = "portkey"\ncurrent = "a"\napi = "http://a:1"', 'gateway = "litellm"\ncurrent = "a"\napi = "http://k@a"']
)
def test_only_a_litellm_is_asked_and_its_address_holds_no_key(tmp_path: Path, text: str) -> None:
    config = tmp_path / "routing.toml"
    config.write_text(f"[rollout]\n{text}\n")
    with pytest.raises(UnusableInputError, match=r"\[rollout\] api"):
        read_rollout(config)
