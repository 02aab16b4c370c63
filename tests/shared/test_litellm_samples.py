"""Captured LiteLLM logs, field by field: what each record must read as, written down by hand from the record."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from routing_pipeline.ingest.ingestion import IngestResult, ingest_logs
from routing_pipeline.lake.table import Lake
from routing_pipeline.schema import REQUEST_LOG, column_names
from routing_pipeline.storage.home import Home

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "samples"
NOW_S = 1_795_500_000.0
"""After the newest sample."""

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the captured samples are not beside the repository")


def ingested(home: Home, place: Path) -> tuple[IngestResult, dict[str, dict[str, Any]]]:
    result = ingest_logs(home, str(place), now_s=NOW_S, add_source=True)
    files = list(Lake(home).attempt_files(0, NOW_S))
    with duckdb.connect() as connection:
        cursor = connection.execute("SELECT * FROM read_parquet($files)", {"files": files})
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return result, {row["attempt_id"]: row for row in rows}


ASKED = ("has_tools", "has_schema", "max_output_tokens", "model_version")
"""What a captured record shows of the request where its parameters were logged, and of the answer where it was."""


def expected(**given: Any) -> dict[str, Any]:
    """All columns of the contract that come from the record; what is not given must be null."""
    names = [name for name in column_names(REQUEST_LOG) if name not in {*TOLD_APART, "source_object", "ingested_at", *ASKED}]
    # All of them are chat in plain text.
    return dict.fromkeys(names) | {"source_format": "litellm", "operation": "chat", "has_image": False, "has_audio": False} | given


TOLD_APART = {"user_hash", "key_hash", "router_tier", "router_score"}
"""What most samples do not say, or say by a hash with the home's own key; the whole bucket is asked for them."""


def assert_reads(row: dict[str, Any], **given: Any) -> None:
    want = expected(**given)
    assert {row["has_tools"], row["has_schema"]} <= {False, None}, "none of them offers tools or asks for a schema"
    assert row["max_output_tokens"] in {None, 16_384, 64_000}
    assert row["model_version"] in {None, "fp_x", "gpt-4o-mini-2024-08-06"}
    for name, value in want.items():
        got = row[name]
        if isinstance(value, float):
            assert got == pytest.approx(value, abs=1e-9), name
        else:
            assert got == value, name


CODE = {"task_type": "code", "complexity": 0.75, "quality_score": 0.8, "routing_rule_id": "r1", "propensity": 0.9}
NO_AUDIO = {"audio_prompt_tokens": 0, "audio_completion_tokens": 0}
SMALL = {
    **NO_AUDIO,
    "prompt_tokens": 40,
    "completion_tokens": 25,
    "cached_tokens": 0,
    "reasoning_tokens": 8,
    "status": "success",
    "retries": 0,
}
ROUTER = {
    **CODE,
    **NO_AUDIO,
    "model": "rule/r1",
    "provider": "openai",
    "provider_model": "gpt-4o",
    "prompt_tokens": 1200,
    "completion_tokens": 25,
    "cached_tokens": 1024,
    "reasoning_tokens": 8,
    "cost_usd": 0.00197,
    "status": "success",
    "routing_reason": "classifier_plugin",
}

SINGLES: dict[str, dict[str, Any]] = {
    "litellm_proxy_complexity_router_success.json": {
        **ROUTER,
        "attempt_id": "06f8c9ab-9432-453c-9060-b37a25af7830/chatcmpl-1795392280970018136/1795392280270147",
        "request_id": "06f8c9ab-9432-453c-9060-b37a25af7830",
        "session_id": "sess-1",
        "started_at": datetime(2026, 11, 23, 0, 4, 40, 270147),
        "latency_ms": 907.847,
        "routing_latency_ms": 325.614,
        "retries": 0,
    },
    "litellm_proxy_stream_success.json": {
        **ROUTER,
        "attempt_id": "ab9f52e5-12d4-43ad-8739-84dfd22c2a8d/chatcmpl-1795392281201333132/1795392281191858",
        "request_id": "ab9f52e5-12d4-43ad-8739-84dfd22c2a8d",
        "session_id": "s-77",
        "started_at": datetime(2026, 11, 23, 0, 4, 41, 191858),
        # response_time says 0.17 s here, which is the time to the first token.
        "latency_ms": 472.347,
        "ttft_ms": 172.170,
        "is_cache_hit": False,
    },
    "litellm_proxy_failure_429.json": {
        **CODE,
        "attempt_id": "bf9f4259-ec76-4858-9958-7b881a81592d/1795392281673807",
        "request_id": "bf9f4259-ec76-4858-9958-7b881a81592d",
        "session_id": "s-77",
        "started_at": datetime(2026, 11, 23, 0, 4, 41, 673807),
        "latency_ms": 4.917,
        "model": "flaky",
        "provider": "openai",
        "provider_model": "flaky-429",
        "status": "failure",
        "error_type": "429_RATE_LIMIT_EXCEEDED",
        "is_cache_hit": False,
    },
    "litellm_proxy_after_fallback_success.json": {
        **CODE,
        **SMALL,
        "attempt_id": "bf9f4259-ec76-4858-9958-7b881a81592d/chatcmpl-1795392283851855881/1795392283840152",
        "request_id": "bf9f4259-ec76-4858-9958-7b881a81592d",
        "session_id": "s-77",
        "started_at": datetime(2026, 11, 23, 0, 4, 43, 840152),
        "latency_ms": 213.494,
        # The logged overhead of 2174.669 ms is the failed attempt's time, so routing latency is unknown.
        "routing_latency_ms": None,
        "model": "mini",
        "provider": "openai",
        "provider_model": "gpt-4o-mini",
        "cost_usd": 2.1e-05,
        "fallback_from": "flaky",
    },
    "litellm_proxy_tag_routed_success.json": {
        **SMALL,
        "attempt_id": "b36e1b47-d330-4bbf-95a1-a88662ab42e3/chatcmpl-1795392284090334913/1795392284082317",
        "request_id": "b36e1b47-d330-4bbf-95a1-a88662ab42e3",
        "started_at": datetime(2026, 11, 23, 0, 4, 44, 82317),
        "latency_ms": 255.809,
        "routing_latency_ms": 16.114,
        "model": "tagged",
        "provider": "openai",
        "provider_model": "gpt-4.1",
        "task_type": "code",
        "cost_usd": 0.00028,
        "routing_rule_id": "r1",
    },
    "litellm_proxy_bad_model_failure.json": {
        "attempt_id": "448db46a-0c1a-4ed2-a907-ef2670aa162f/1795392287589556",
        "request_id": "448db46a-0c1a-4ed2-a907-ef2670aa162f",
        "started_at": datetime(2026, 11, 23, 0, 4, 47, 589556),
        "latency_ms": 2.436,
        "model": "nope",
        "provider_model": "nope",
        "status": "failure",
        "error_type": "400_INVALID_REQUEST",
        "is_cache_hit": False,
    },
    "litellm_proxy_pair_failure.json": {
        "attempt_id": "3bc15374-dd15-429f-9533-c9813a5d8760/1795393207138481",
        "request_id": "3bc15374-dd15-429f-9533-c9813a5d8760",
        "session_id": "S",
        "started_at": datetime(2026, 11, 23, 0, 20, 7, 138481),
        "latency_ms": 570.896,
        "model": "flaky",
        "provider": "openai",
        "provider_model": "flaky-429",
        "status": "failure",
        "error_type": "429_RATE_LIMIT_EXCEEDED",
        "is_cache_hit": False,
    },
    "litellm_proxy_pair_fallback_success.json": {
        **SMALL,
        "attempt_id": "3bc15374-dd15-429f-9533-c9813a5d8760/chatcmpl-1795393207829937881/1795393207823443",
        "request_id": "3bc15374-dd15-429f-9533-c9813a5d8760",
        "session_id": "S",
        "started_at": datetime(2026, 11, 23, 0, 20, 7, 823443),
        "latency_ms": 257.146,
        "model": "mini",
        "provider": "openai",
        "provider_model": "gpt-4o-mini",
        "cost_usd": 2.1e-05,
        "fallback_from": "flaky",
    },
}

SDK = {"task_type": "summarize", "quality_score": 0.82, "team": "search", "provider": "openai"}
CHEAP = {"model": "cheap", "provider_model": "gpt-4o-mini", "status": "success"}
BROKEN = {
    "model": "broken",
    "provider_model": "gpt-4o",
    "status": "failure",
    "error_type": "429_RATE_LIMIT_EXCEEDED",
    "is_cache_hit": False,
}
DEAD = {
    "model": "dead",
    "provider_model": "gpt-4o",
    "status": "failure",
    "error_type": "500_PROVIDER_INTERNAL_ERROR",
    "is_cache_hit": False,
}
B9 = "b9d075a9-8b3d-4f12-981c-140004246689"
R5 = "50518906-2a85-401f-b33a-24c2608db4ef"

BATCH: list[dict[str, Any]] = [
    {
        **SDK,
        **CHEAP,
        "attempt_id": "4f1fe074-0440-406d-ac1d-90d60d81b556/chatcmpl-6e5d3611-2180-493c-8f8d-146b80dc2766/1795391742087780",
        "request_id": "2e6b33c2-da8a-4fa0-967a-680f0435eead",
        "started_at": datetime(2026, 11, 22, 23, 55, 42, 87780),
        "latency_ms": 329.513,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "cost_usd": 1.35e-05,
        "retries": 0,
        "routing_reason": "heuristic_scorer",
    },
    {
        **SDK,
        "attempt_id": "f35e0a3d-764a-443c-a8f6-c4671c129658/chatcmpl-b4e63605-24bc-445f-a9cf-8f0e7649d0f3/1795391742425134",
        "request_id": "d5db1080-5a8b-402b-9275-bc0af0e3f1b9",
        "started_at": datetime(2026, 11, 22, 23, 55, 42, 425134),
        "latency_ms": 55.115,
        "model": "strong",
        "provider": "anthropic",
        "provider_model": "claude-sonnet-4-5",
        "status": "success",
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "cost_usd": 0.00033,
        "retries": 0,
        "routing_reason": "reasoning_override",
    },
    {
        **SDK,
        **CHEAP,
        "attempt_id": "b8e4fc3a-fee8-466a-bdcc-86d5fdd3d1bd/chatcmpl-d110e1aa-fc28-4c29-ab7d-b97f2f797e4c/1795391742482728",
        "request_id": "4e6128ce-b1f1-4cbf-bfe1-0de33b8311a8",
        "started_at": datetime(2026, 11, 22, 23, 55, 42, 482728),
        "latency_ms": 662.087,
        "ttft_ms": 16.212,
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "reasoning_tokens": 0,
        "cost_usd": 3.15e-06,
        "is_cache_hit": False,
    },
    {
        **SDK,
        **BROKEN,
        "attempt_id": "c5d1befe-c250-4788-bf99-22af6d79a03f/1795391743139077",
        "request_id": B9,
        "started_at": datetime(2026, 11, 22, 23, 55, 43, 139077),
        "latency_ms": 7.112,
    },
    {
        **SDK,
        **BROKEN,
        "attempt_id": "113109b6-66b6-4ab3-a17e-2abda5659304/1795391743997417",
        "request_id": B9,
        "started_at": datetime(2026, 11, 22, 23, 55, 43, 997417),
        "latency_ms": 6.044,
    },
    {
        **SDK,
        **DEAD,
        "attempt_id": "884343f6-a88c-4ecd-b70f-c3750be931f2/1795391745594813",
        "request_id": R5,
        "started_at": datetime(2026, 11, 22, 23, 55, 45, 594813),
        "latency_ms": 10.044,
    },
    {
        **SDK,
        **CHEAP,
        "attempt_id": "c8d2ea1f-46e1-4b9c-9912-9d87b7beba11/chatcmpl-fa542e8e-c5f6-40c4-9548-2e12e341d336/1795391745586185",
        "request_id": B9,
        "started_at": datetime(2026, 11, 22, 23, 55, 45, 586185),
        "latency_ms": 2.255,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "cost_usd": 1.35e-05,
        "retries": 0,
        "fallback_from": "broken",
    },
    {
        **SDK,
        **DEAD,
        "attempt_id": "b3b018db-4a60-4161-904c-d7496398ab8b/1795391746215557",
        "request_id": R5,
        "started_at": datetime(2026, 11, 22, 23, 55, 46, 215557),
        "latency_ms": 9.225,
    },
]

TAG_ROUTED: list[tuple[str, str, int, float, float, str]] = [
    # litellm_call_id, id, start in microseconds, latency, overhead, model called; all of the group `tagged` by rule r1
    ("f974cbc0-7c31-4bf1-a4d4-1dfea65870dd", "chatcmpl-1795392284377069381", 1795392284366899, 254.790, 22.7411, "gpt-4o"),
    ("94a96a67-8b0b-49ce-810a-1ed0272f89ed", "chatcmpl-1795392284645131550", 1795392284641586, 248.442, 9.1162, "gpt-4o"),
    ("a077a8da-e21e-41a2-8e5c-a057c29693f6", "chatcmpl-1795392284915388407", 1795392284909137, 248.949, 14.3101, "gpt-4o"),
    ("bef9066e-b233-417a-a337-33c0929db3cb", "chatcmpl-1795392285181827597", 1795392285179016, 246.659, 13.5717, "gpt-4o"),
    ("ab523bed-0d48-49ea-a586-c5977f68cfc3", "chatcmpl-1795392285445539938", 1795392285441689, 248.159, 8.3721, "gpt-4o"),
    ("f490586b-dfc7-4386-8467-4742a1a1227d", "chatcmpl-1795392285718688399", 1795392285710867, 250.843, 13.1700, "gpt-4o"),
    ("ea374045-711c-452c-a34e-fe435215677f", "chatcmpl-1795392285987147402", 1795392285980601, 257.041, 14.1399, "gpt-4o"),
    ("17791e8d-81e6-479e-bad7-9d65ee178482", "chatcmpl-1795392286259481854", 1795392286256650, 249.023, 12.8970, "gpt-4o"),
    ("62a34239-0fab-410c-b92d-3eb9257ea3a1", "chatcmpl-1795392286534599709", 1795392286529614, 248.400, 13.3209, "gpt-4o"),
    ("f92e015c-0e67-47da-908b-d6f71baf2975", "chatcmpl-1795392286818942595", 1795392286809175, 211.543, 21.7421, "gpt-4o"),
    ("1d8ed9e3-c7a8-4691-a1e7-4b5c217e3b5a", "chatcmpl-1795392287047557382", 1795392287043828, 249.925, 12.1579, "gpt-4o"),
    ("e85e748d-5c37-4459-abd7-9d9999ea7171", "chatcmpl-1795392287321114189", 1795392287313274, 262.536, 9.5410, "gpt-4o-mini"),
]


def test_each_captured_object_reads_as_its_record_says(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for name, want in SINGLES.items():
        # One by one, so that the fallback finds the failure that an earlier run brought.
        result, rows = ingested(home, SAMPLES / name)
        assert (result.records, result.ingested, result.quarantined, result.duplicates) == (1, 1, 0, 0), name
        assert_reads(rows[want["attempt_id"]], **want)


def test_a_bucket_of_single_objects_and_batches_reads_whole_and_counts_the_repeated_batch_as_duplicates(tmp_path: Path) -> None:
    result, rows = ingested(Home(tmp_path / "home"), SAMPLES / "litellm_s3")
    assert (result.records, result.ingested, result.quarantined, result.duplicates) == (34, 26, 0, 8)
    assert result.objects_listed == 20
    assert result.nulled == {}
    for want in BATCH:
        assert_reads(rows[want["attempt_id"]], **want)
    assert {row["router_tier"] for row in rows.values()} == {None, "SIMPLE", "REASONING"}
    assert all(row["key_hash"] is None or len(row["key_hash"]) == 32 for row in rows.values())
    in_bucket = [want for name, want in SINGLES.items() if "pair" not in name]
    for want in in_bucket:
        assert_reads(rows[want["attempt_id"]], **want)
    for call_id, response_id, start_us, latency_ms, overhead_ms, called in TAG_ROUTED:
        row = rows[f"{call_id}/{response_id}/{start_us}"]
        is_ruled = called == "gpt-4o"
        want = {
            **SMALL,
            "attempt_id": f"{call_id}/{response_id}/{start_us}",
            "request_id": call_id,
            "started_at": row["started_at"],
            "latency_ms": latency_ms,
            "routing_latency_ms": overhead_ms,
            "model": "tagged",
            "provider": "openai",
            "provider_model": called,
            "cost_usd": 0.00035 if is_ruled else 2.1e-05,
            "task_type": "code" if is_ruled else None,
            "routing_rule_id": "r1" if is_ruled else None,
        }
        assert row["started_at"] == datetime(2026, 11, 23, 0, 4, start_us // 1_000_000 - 1795392240, start_us % 1_000_000)
        assert_reads(row, **want)
    assert len(rows) == len(BATCH) + len(in_bucket) + len(TAG_ROUTED) == 26


def test_users_are_told_apart_without_their_identifiers(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    _, rows = ingested(home, SAMPLES / "litellm_s3")
    assert len({row["user_hash"] for row in rows.values()}) == 2
    stored = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"end-user-9" not in stored
    assert b"Hello there" not in stored


def test_the_same_bucket_again_adds_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    first, _ = ingested(home, SAMPLES / "litellm_s3")
    again, rows = ingested(home, SAMPLES / "litellm_s3")
    assert (again.objects_skipped, again.objects_new, again.records) == (20, 0, 0)
    assert again.snapshot_id == first.snapshot_id
    assert len(rows) == 26
    totals = Lake(home).totals()
    assert (totals.records, totals.ingested, totals.quarantined, totals.duplicates, totals.objects) == (34, 26, 0, 8, 20)
