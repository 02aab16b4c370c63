"""Feature, workflow, version of the prompt, tags and version of the model, out of every format that logs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.formats.test_otlp import CALL, document, span
from tests.ingest.reading import read_logs

AT_S = 1_795_400_000.0

LITELLM = {
    "id": "a",
    "litellm_call_id": "a",
    "call_type": "acompletion",
    "startTime": AT_S,
    "endTime": AT_S + 1,
    "status": "success",
    "model": "openai/gpt-4o",
    "model_group": "smart",
    "custom_llm_provider": "openai",
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "response_cost": 0.1,
    "request_tags": ["beta", "feature:search", "task_type:code", "User-Agent: x", "eu", "default"],
    "response": {"model": "gpt-4o-2024-11-20", "system_fingerprint": "fp_1"},
    "metadata": {"requester_metadata": {"prompt_version": "v3", "trace_name": "checkout"}},
}
SPEND = {
    "request_id": "a",
    "call_type": "acompletion",
    "spend": 0.1,
    "startTime": "2026-11-23T10:00:00",
    "endTime": "2026-11-23T10:00:01",
    "model": "gpt-4o",
    "model_group": "smart",
    "status": "success",
    "request_tags": '["feature:search", "eu", "beta"]',
    "metadata": json.dumps({"requester_metadata": {"prompt_version": "v3", "workflow": "checkout"}}),
    "response": json.dumps({"model": "gpt-4o-2024-11-20"}),
}
LANGFUSE = {
    "id": "a",
    "trace_id": "t",
    "type": "GENERATION",
    "start_time": "2026-11-23 10:00:00.000000",
    "end_time": "2026-11-23 10:00:01.000000",
    "provided_model_name": "gpt-4o",
    "trace_name": "checkout",
    "prompt_name": "summary",
    "prompt_version": 3,
    "tags": ["feature:search", "eu", "beta"],
    "metadata": {},
}
PORTKEY = {
    "id": "a",
    "created_at": "2026-11-23T10:00:00Z",
    "ai_model": "gpt-4o",
    "ai_org": "openai",
    "is_success": "true",
    "metadata": {"feature": "search", "workflow": "checkout", "prompt_version": "v3"},
    "response": json.dumps({"model": "gpt-4o-2024-11-20"}),
}
HELICONE = {
    "request_id": "a",
    "request_created_at": "2026-11-23T10:00:00Z",
    "response_status": 200,
    "request_model": "gpt-4o",
    "properties": {"feature": "search", "Helicone-Property-workflow": "checkout", "prompt_version": "v3"},
}
CANONICAL = {
    "attempt_id": "a",
    "started_at": AT_S,
    "model": "gpt-4o",
    "status": "success",
    "feature": "search",
    "workflow": "checkout",
    "prompt_version": "v3",
    "tags": "beta,eu",
    "model_version": "gpt-4o-2024-11-20",
}
OTLP = document(
    span(attributes=CALL | {"feature": "search", "gen_ai.prompt.version": "v3", "openai.response.system_fingerprint": "gpt-4o-2024-11-20"}),
    resource={"traceloop.workflow.name": "checkout"},
)
OPENINFERENCE = document(
    span(
        attributes={
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4o",
            "metadata": json.dumps({"feature": "search", "workflow": "checkout"}),
            "llm.prompt_template.version": "v3",
        }
    )
)


def row_of(record: Any, folder: Path) -> dict[str, Any]:
    (folder / "log.jsonl").write_text(json.dumps(record), encoding="utf-8")
    return read_logs(folder / "log.jsonl", folder / "home").row


@pytest.mark.parametrize("record", [LITELLM, SPEND, LANGFUSE, PORTKEY, HELICONE, CANONICAL, OTLP, OPENINFERENCE])
def test_what_the_work_is_called_is_read_from_every_format(record: Any, tmp_path: Path) -> None:
    row = row_of(record, tmp_path)
    assert (row["feature"], row["workflow"]) == ("search", "checkout")
    assert row["prompt_version"] == ("summary@3" if record is LANGFUSE else "v3")


@pytest.mark.parametrize("record", [LITELLM, SPEND, LANGFUSE, CANONICAL])
def test_tags_that_say_no_column_are_kept_in_one_order(record: Any, tmp_path: Path) -> None:
    assert row_of(record, tmp_path)["tags"] == "beta,eu"


@pytest.mark.parametrize("record", [LITELLM, SPEND, PORTKEY, CANONICAL, OTLP])
def test_the_version_is_what_the_answer_calls_itself(record: Any, tmp_path: Path) -> None:
    assert row_of(record, tmp_path)["model_version"] == "gpt-4o-2024-11-20"


@pytest.mark.parametrize("answered", ["gpt-4o", "smart", "openai/gpt-4o", None])
def test_an_answer_under_the_name_that_was_asked_for_tells_its_version_by_its_fingerprint(answered: str | None, tmp_path: Path) -> None:
    record = LITELLM | {"response": {"model": answered, "system_fingerprint": "fp_1"}}
    assert row_of(record, tmp_path)["model_version"] == "fp_1"
