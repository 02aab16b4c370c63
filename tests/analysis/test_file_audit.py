"""One file of logs, without a home: what it spends, how fast, what could be tested."""

from __future__ import annotations

import gzip
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from routing_pipeline.analysis.file_audit import FileAudit, audit
from routing_pipeline.cli.audit import lines
from routing_pipeline.errors import DataQualityError, UnusableInputError
from routing_pipeline.estimates import Unidentifiable

START_S = 1_763_640_000
DAYS = 2


def call(number: int, model: str, usd: float | None, **also: Any) -> dict[str, Any]:
    """As LiteLLM's table of spend has it, one a minute over two days."""
    started = START_S + number * DAYS * 86_400 / 400
    at = [f"{datetime.fromtimestamp(started + more, UTC):%Y-%m-%dT%H:%M:%SZ}" for more in (0, 1)]
    tokens = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    return {
        "request_id": f"r{number}",
        "call_type": "acompletion",
        "startTime": at[0],
        "endTime": at[1],
        "model": model,
        "model_group": model,
        "spend": usd,
        "status": "success",
        "metadata": json.dumps({"tags": []}),
        "request_tags": json.dumps(["task_type:chat"]),
        **tokens,
        **also,
    }


CALLS = [call(number, *(("large", 0.02) if number % 4 else ("small", 0.001))) for number in range(400)]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def as_lines(calls: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in calls).encode()


def as_csv(calls: list[dict[str, Any]]) -> bytes:
    import csv
    import io

    written = io.StringIO()
    table = csv.DictWriter(written, list(calls[0]))
    table.writeheader()
    table.writerows(calls)
    return written.getvalue().encode()


def as_parquet(calls: list[dict[str, Any]]) -> bytes:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(calls), written)
    return written.getvalue()


def audited(folder: Path, content: bytes, name: str = "spend.jsonl") -> FileAudit:
    (folder / name).write_bytes(content)
    return audit(str(folder / name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("spend.jsonl", as_lines(CALLS)),
        ("spend.json", json.dumps(CALLS).encode()),
        ("spend.jsonl.gz", gzip.compress(as_lines(CALLS))),
        ("spend.csv", as_csv(CALLS)),
        ("spend.parquet", as_parquet(CALLS)),
    ],
)
def test_any_shape_of_a_file_says_the_same_and_leaves_nothing(tmp_path: Path, temporary: Path, name: str, content: bytes) -> None:
    found = audited(tmp_path, content, name)
    assert (found.calls, found.quarantined, found.spend_usd) == (400, 0, pytest.approx(300 * 0.02 + 100 * 0.001))
    assert [(each.model, each.calls) for each in found.models] == [("large", 300), ("small", 100)]
    assert found.models[0].cost_per_call_usd == pytest.approx(0.02)
    assert not isinstance(found.run_rate_usd, Unidentifiable)
    assert found.run_rate_usd == pytest.approx(found.spend_usd / 2 * 30, rel=0.02)
    ((task, dear, cheap, ratio),) = [(each.task_type, each.dear, each.cheap, each.cost_ratio) for each in found.comparisons]
    assert (task, dear, cheap, ratio) == ("chat", "large", "small", pytest.approx(0.05))
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "temporary"])


def test_what_cannot_be_used_is_counted_with_its_reason(tmp_path: Path) -> None:
    found = audited(tmp_path, as_lines([*CALLS, CALLS[0], {**CALLS[1], "request_id": "x", "spend": -1}]))
    assert (found.records, found.calls, found.quarantined, found.duplicates) == (402, 400, 1, 1)
    assert "negative" in next(iter(found.reasons))
    assert "1 could not be used and 1 were there twice" in "\n".join(lines(found, "spend.jsonl"))


def test_a_few_hours_tell_of_no_month_and_one_model_of_no_comparison(tmp_path: Path) -> None:
    found = audited(tmp_path, as_lines([each for each in CALLS[:40] if each["model"] == "large"]))
    assert isinstance(found.run_rate_usd, Unidentifiable)
    said = "\n".join(lines(found, "spend.jsonl"))
    assert "Run rate  cannot tell" in said
    assert "these logs compare nothing" in said


def test_a_model_whose_calls_cost_nothing_is_worth_a_test_and_never_the_dearer_one(tmp_path: Path) -> None:
    own = [
        {
            "attempt_id": f"a{number}",
            "started_at": START_S + number * 600.0,
            "model": "our-own" if number % 2 else "large",
            "status": "success",
            "task_type": "chat",
            "cost_usd": 0.0 if number % 2 else 0.02,
        }
        for number in range(400)
    ]
    ((dear, cheap, ratio),) = [(each.dear, each.cheap, each.cost_ratio) for each in audited(tmp_path, as_lines(own)).comparisons]
    assert (dear, cheap, ratio) == ("large", "our-own", 0.0)


def test_an_unpriced_answer_is_no_free_one_and_a_failure_that_nobody_charged_is(tmp_path: Path) -> None:
    odd = [call(400, "nobody-prices-this", None), call(401, "large", None, status="failure")]
    found = audited(tmp_path, as_lines([*CALLS, *odd]))
    assert (found.unpriced, found.failed, found.failed_usd) == (1, 1, 0.0)
    assert next(each for each in found.models if each.model == "nobody-prices-this").cost_per_call_usd is None


def test_a_page_names_the_command_that_goes_on_with_the_file_as_it_was_given(tmp_path: Path) -> None:
    said = "\n".join(lines(audited(tmp_path, as_lines(CALLS)), "my spend.jsonl"))
    assert "routing-pipeline run --logs 'my spend.jsonl' --feedback SCORES --out report" in said
    assert len(said.splitlines()) < 40


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    found = audited(tmp_path, as_lines([call(number, "a\x1b[31m\nb" + "x" * 300, 0.1) for number in range(3)]))
    said = list(lines(found, "spend.jsonl"))
    assert all(line.isprintable() and len(line) < 200 for line in said)


def test_a_file_in_which_nothing_is_known_ends_as_a_check_that_failed(tmp_path: Path) -> None:
    with pytest.raises(DataQualityError, match="its fields are uuid, llm, spent"):
        audited(tmp_path, as_lines([{"uuid": "u", "llm": "m", "spent": 1}] * 3))
    with pytest.raises(DataQualityError, match="its only record cannot be used: no known log format"):
        audited(tmp_path, as_lines([{"uuid": "u", "llm": "m", "spent": 1}]))
    with pytest.raises(UnusableInputError, match="nothing in it is a call"):
        audited(tmp_path, b"\n\n")
    with pytest.raises(UnusableInputError, match="no such file"):
        audit(str(tmp_path / "nowhere"))
