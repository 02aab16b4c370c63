"""Formats are told by content: each record is of one format and no other, whatever its object is called."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.ingest import formats
from routing_pipeline.ingest.formats import FORMATS, named, recognised
from tests.ingest.formats import (
    test_envoy_ai_gateway as envoy_ai_gateway,
    test_helicone as helicone,
    test_kong as kong,
    test_langfuse as langfuse,
    test_langfuse_api as langfuse_api,
    test_litellm as litellm,
    test_litellm_spend_logs as litellm_spend_logs,
    test_openinference as openinference,
    test_openrouter as openrouter,
    test_otlp as otlp,
    test_portkey as portkey,
    test_vllm_sr as vllm_sr,
)
from tests.ingest.reading import json_lines, read_logs

RECORDS: dict[str, dict[str, Any]] = {
    "canonical": {"attempt_id": "a", "started_at": 1, "model": "m", "status": "success", "request_id": "r", "provider": "p"},
    "litellm": litellm.BASE,
    "litellm_spend_logs": litellm_spend_logs.BASE,
    "otlp": otlp.document(otlp.span()),
    "openinference": openinference.EXPORTED,
    "langfuse": langfuse.BASE,
    "langfuse_api": langfuse_api.BASE,
    "portkey": portkey.BASE,
    "openrouter": {"data": openrouter.BASE},
    "helicone": helicone.BASE,
    "envoy_ai_gateway": envoy_ai_gateway.BASE,
    "vllm_sr": vllm_sr.BASE,
    "kong": kong.BASE | {"started_at": kong.START_MS, "request": {"id": "k"}},
}


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_every_format_has_a_record_here_that_no_other_format_takes_for_its_own(each: Any) -> None:
    record = RECORDS[each.name]
    assert [other.name for other in FORMATS if other.recognises(record)] == [each.name]
    assert recognised(record) is each


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_every_format_is_a_module_of_its_name_that_can_be_asked_for(each: Any) -> None:
    assert named(each.name) is each
    assert importlib.import_module(f"routing_pipeline.ingest.formats.{each.name}").__doc__


def test_what_no_format_knows_is_of_none() -> None:
    assert recognised({"id": "x", "model": "m"}) is None
    assert named("auto") is None
    with pytest.raises(UnusableInputError, match="canonical, envoy_ai_gateway, helicone"):
        named("unheard of")


ROOT = Path(__file__).parents[2]


def test_every_format_is_documented() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert listed == {each.name for each in FORMATS}


NEEDS = (
    ("operation",),
    ("has_image", "has_audio"),
    ("has_tools", "has_schema"),
    ("max_output_tokens", "reasoning_effort"),
    ("service_tier",),
    ("cached_tokens",),
)


def test_what_a_format_cannot_say_of_a_call_is_documented() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    table = page.split("## What each says of a call")[1].split("##")[0]
    told = {name: cells.split("|") for name, cells in re.findall(r"^\| `([a-z_]+)` \|(.*)\|$", table, re.MULTILINE)}
    assert told.keys() == {each.name for each in FORMATS} - {"canonical"}
    for each in FORMATS:
        given = each.columns.keys() | each.optional.keys()
        for cell, columns in zip(told.get(each.name, ()), NEEDS, strict=False):
            assert (cell.strip() == "-") == given.isdisjoint(columns), (each.name, columns)


def test_the_documented_description_of_a_log_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (tmp_path / "acme.toml").write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    described = named(str(tmp_path / "acme.toml"))
    assert described is not None
    assert described.name == "acme"


def test_the_module_that_contributors_are_shown_reads_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    module: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], module)  # noqa: S102 (our own page)
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, module["ACME"]))
    record = {"call": "c", "started": 1_795_400_000_000, "took_ms": 5, "model": "m", "cost": 2, "code": 200, "meta": {"session": "s"}}
    (tmp_path / "a.jsonl").write_bytes(json_lines([record]))
    row = read_logs(tmp_path / "a.jsonl", tmp_path / "home", "acme").row
    assert (row["cost_usd"], row["session_id"], row["status"], row["source_format"]) == (0.02, "s", "success", "acme")
