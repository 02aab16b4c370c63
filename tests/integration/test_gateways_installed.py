"""Gateways themselves take what is exported: Portkey's decides as we do, vLLM-SR's own validation finds nothing wrong.

Bifrost is a binary that cannot be had everywhere: its conditions are put to CEL itself, under its rule that what cannot be evaluated does not match.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.gateways import bifrost, portkey, vllm_sr
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.parameters import Parameters
from routing_pipeline.rules.deciding import deciding
from routing_pipeline.rules.reading import read_given_rules

PORTKEY = os.environ.get("ROUTING_PIPELINE_PORTKEY", "")
VLLM_SR = os.environ.get("ROUTING_PIPELINE_VLLM_SR", "")
CEL = os.environ.get("ROUTING_PIPELINE_CEL_PYTHON", "")
RULES = read_given_rules(
    [
        {
            "when": {"task_type": ["code"], "complexity": {"gte": 0.5}},
            "route": [{"model": "gpt-4o-mini", "weight": 0.7}, {"model": "claude", "weight": 0.3}],
        },
        {
            "per": "session",
            "when": {"prompt_tokens": {"lt": 500}, "has_image": False},
            "route": [{"model": "s1", "weight": 0.5}, {"model": "s2", "weight": 0.5}],
        },
        {"when": {"team": ["ops"]}, "route": "unchanged"},
        {"when": {"tier": ["premium"]}, "route": "down", "fallbacks": ["gpt-4o"]},
        {"when": {}, "route": "rest"},
    ],
    Parameters(),
)


class Upstream(BaseHTTPRequestHandler):
    """Answers with the model that it was asked for; `down` does not answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        model = json.loads(self.rfile.read(int(self.headers["content-length"])))["model"]
        body = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": []}).encode()
        self.send_response(503 if model == "down" else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[tuple[str, str]]:
    """Addresses of Portkey's gateway and of what stands behind it."""
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = subprocess.Popen(["node", PORTKEY, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield url, f"http://127.0.0.1:{upstream.server_port}/v1"
    finally:
        running.terminate()
        upstream.shutdown()


@pytest.mark.skipif(not Path(PORTKEY).is_file(), reason="Portkey's gateway is not installed here: `make loop` installs it")
def test_portkey_decides_as_we_do(gateway: tuple[str, str]) -> None:
    url, behind = gateway
    config = json.loads(portkey.write(plan_of(RULES, 1.0), None).files["portkey.json"])
    _send_all_to(config, behind)
    draw = random.Random(1)  # noqa: S311  made-up traffic
    for _ in range(200):
        labels = _labels(draw)
        assert _answered(url, config, labels) in _expected(labels), labels


def _labels(draw: random.Random) -> dict[str, str]:
    labels = {
        "task_type": draw.choice(["code", "chat"]),
        "complexity": str(round(draw.random(), 2)),
        "prompt_tokens": draw.choice(["100", "900"]),
        "has_image": draw.choice(["true", "false"]),
        "team": draw.choice(["ops", "other"]),
        "tier": draw.choice(["premium", "other"]),
        "rule_draw": f"{draw.randrange(100):02d}",
    }
    if draw.random() < 0.2:
        del labels[draw.choice(list(labels))]
    return labels


def _expected(labels: dict[str, str]) -> set[str]:
    fields: dict[str, Any] = {**labels}
    fields |= {name: float(labels[name]) for name in ("complexity", "prompt_tokens") if name in labels}
    fields |= {"has_image": labels["has_image"] == "true"} if "has_image" in labels else {}
    rule = deciding(RULES.rules, fields)
    assert rule is not None
    drawn = labels.get("rule_draw")
    session = "asked" if drawn is None else "s1" if int(drawn) < 50 else "s2"
    return {"r1": {"gpt-4o-mini", "claude"}, "r2": {session}, "r3": {"asked"}, "r4": {"gpt-4o"}, "r5": {"rest"}}[rule.id]


def _send_all_to(target: dict[str, Any], url: str) -> None:
    for inner in target.get("targets", []):
        _send_all_to(inner, url)
    if "targets" not in target:
        target.update(provider="openai", api_key="none", custom_host=url)


def _answered(url: str, config: dict[str, Any], labels: dict[str, str]) -> str:
    headers = {"content-type": "application/json", "x-portkey-config": json.dumps(config), "x-portkey-metadata": json.dumps(labels)}
    asked = HTTPConnection(url.removeprefix("http://"), timeout=10)
    asked.request("POST", "/v1/chat/completions", json.dumps({"model": "asked", "messages": [{"role": "user", "content": "x"}]}), headers)
    answer = json.load(asked.getresponse())
    asked.close()
    return str(answer.get("model", answer))


FIRST_THAT_HOLDS = """
import json, sys
import cel

asked = json.load(sys.stdin)

def holds(expression, context):
    try:
        return cel.evaluate(expression, context) is True
    except Exception:
        return False

first = [next((place for place, each in enumerate(asked["rules"]) if holds(each, context)), None) for context in asked["contexts"]]
json.dump(first, sys.stdout)
"""


@pytest.mark.skipif(not CEL, reason="no interpreter of CEL is installed here: `make loop` installs it")
def test_bifrosts_conditions_decide_in_cel_as_we_do() -> None:
    rules = json.loads(bifrost.write(plan_of(RULES, 1.0), None).files["config.json"])["governance"]["routing_rules"]
    assert all(abs(sum(target["weight"] for target in rule["targets"]) - 1) < 1e-9 for rule in rules)
    draw = random.Random(2)  # noqa: S311  made-up traffic
    asked = [_labels(draw) for _ in range(2_000)]
    contexts = [
        {
            "headers": {f"x-{name.replace('_', '-')}": value for name, value in labels.items() if name != "team"},
            "team_name": labels.get("team", ""),
        }
        for labels in asked
    ]
    content = json.dumps({"rules": [rule["cel_expression"] for rule in rules], "contexts": contexts})
    found = subprocess.run([CEL, "-c", FIRST_THAT_HOLDS], input=content, capture_output=True, text=True, check=True)
    for labels, place in zip(asked, json.loads(found.stdout), strict=True):
        served = {target.get("model", "asked") for target in rules[place]["targets"]}
        # What Portkey's fallback answers is asked of `down` first.
        assert served == {"down" if each == "gpt-4o" else each for each in _expected(labels)}, labels


@pytest.mark.skipif(not VLLM_SR, reason="vllm-sr is not installed here: `make loop` installs it")
def test_vllm_sr_finds_nothing_wrong(tmp_path: Path) -> None:
    route = [{"model": "gpt-4o-mini", "weight": 0.9}, {"model": "claude-haiku-4-5", "weight": 0.1}]
    when = {"task_type": ["code", "chat"], "prompt_tokens": {"lt": 2000}, "has_tools": False}
    rules = read_given_rules([{"when": when, "route": route}, {"when": {"team": ["growth"]}, "route": "gpt-4o"}], Parameters())
    path = vllm_sr.write(plan_of(rules, 0.05), None).written(tmp_path)[0]
    found = subprocess.run([VLLM_SR, "config", "validate", "--config", str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
