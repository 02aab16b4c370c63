"""Ingestion against a bare DuckDB COPY of the same files: the price of validation, deduplication, quarantine and commit.

Writes LiteLLM-shaped lines of about 1 KB into a temporary folder, then times, each in a fresh process and within this run,
`COPY (SELECT typed columns FROM read_json(...)) TO parquet` and `ingest_logs`. Prints both, their ratio, and peak memory.

    python benchmarks/ingest.py [--lines 2000000] [--files 32] [--broken 0.0] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET_RATIO = 3.0
TARGET_PEAK_GB = 1.5

_LINE = (
    '{"id": "chatcmpl-%(n)d", "litellm_call_id": "%(call)032x", "trace_id": "%(trace)032x", "session_id": "", "call_type": "acompletion", '
    '"cache_hit": false, "stream": null, "status": "success", "custom_llm_provider": "openai", "startTime": %(start).6f, '
    '"endTime": %(end).6f, "completionStartTime": %(end).6f, "response_time": 0.9, "model": "openai/%(model)s", "model_group": "%(model)s", '
    '"model_id": "m-1", "response_cost": %(cost).8f, "total_tokens": %(total)d, "prompt_tokens": %(prompt)d, "completion_tokens": 25, '
    '"request_tags": ["task_type:%(task)s", "User-Agent: app"], "end_user": "user-%(user)d", "metadata": {"user_api_key_request_route": '
    '"/v1/chat/completions", "user_api_key_team_alias": "team-%(team)d", "requester_metadata": {"task_type": "%(task)s", "complexity": '
    '%(complexity).3f, "session_id": "s-%(session)d"}, "usage_object": {"prompt_tokens_details": {"cached_tokens": 64}, '
    '"completion_tokens_details": {"reasoning_tokens": 0}}}, "hidden_params": {"litellm_overhead_time_ms": 9.25, "additional_headers": '
    '{"x-litellm-attempted-retries": 0, "x-litellm-attempted-fallbacks": 0}}, "error_information": {"error_class": "", "error_code": ""}}'
)
_MODELS = ("gpt-4o", "gpt-4o-mini", "claude-haiku-4-5", "claude-sonnet-4-5")
_TASKS = ("chat", "code", "summarization", "extraction", "translation")
_START_S = 1_794_000_000.0


def write_lines(folder: Path, lines: int, files: int, broken: float) -> int:
    """Lines over a week, `files` files; gives bytes written."""
    rng = random.Random(1)  # noqa: S311 (made-up data)
    written = 0
    per_file = lines // files
    for number in range(files):
        out = []
        for n in range(number * per_file, (number + 1) * per_file):
            if rng.random() < broken:
                out.append(f'{{"id": "broken-{n}", "response_cost": ')
                continue
            start = _START_S + n * (600_000 / lines)
            prompt = 100 + n % 3_000
            out.append(
                _LINE
                % {
                    "n": n,
                    "call": n * 2_654_435_761,
                    "trace": n * 40_503,
                    "start": start,
                    "end": start + 0.5 + n % 700 / 1000,
                    "model": _MODELS[n % 4],
                    "cost": prompt * 2.5e-6,
                    "total": prompt + 25,
                    "prompt": prompt,
                    "task": _TASKS[n % 5],
                    "user": n % 5_000,
                    "team": n % 7,
                    "complexity": n % 1000 / 1000,
                    "session": n // 5,
                }
            )
        text = "\n".join(out) + "\n"
        (folder / f"batch-{number:04d}.jsonl").write_text(text, encoding="utf-8")
        written += len(text)
    return written


def bare_copy(logs: Path, scratch: Path) -> dict[str, float]:
    """The yardstick: the same fields, typed the same way, written as they come."""
    import duckdb

    from routing_pipeline.ingest.formats.litellm import LITELLM

    files = sorted(str(path) for path in logs.glob("*.jsonl"))
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        began = time.monotonic()
        relation = connection.sql(
            "SELECT * FROM read_json($files, columns=$columns, format='newline_delimited', ignore_errors=true)",
            params={"files": files, "columns": LITELLM.json_columns},
        )
        relation.write_parquet(str(scratch / "bare.parquet"))
        return {"seconds": time.monotonic() - began}


def our_ingestion(logs: Path, scratch: Path) -> dict[str, float]:
    """ingest_logs into an empty home, from a cold start of its imports."""
    began = time.monotonic()
    from routing_pipeline.home import Home
    from routing_pipeline.ingest.ingestion import ingest_logs

    result = ingest_logs(Home(scratch / "home"), str(logs))
    return {"seconds": time.monotonic() - began, "ingested": result.ingested, "quarantined": result.quarantined, "records": result.records}


def _in_fresh_process(what: str, logs: Path, scratch: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, "--folder", str(logs), "--scratch", str(scratch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _child(what: str, logs: Path, scratch: Path) -> None:
    figures = bare_copy(logs, scratch) if what == "bare" else our_ingestion(logs, scratch)
    figures["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--broken", type=float, default=0.0, help="share of lines that are broken")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--child", choices=("bare", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child, asked.folder, asked.scratch)
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
        logs, scratch = Path(temporary) / "logs", Path(temporary) / "scratch"
        logs.mkdir()
        scratch.mkdir()
        size = write_lines(logs, asked.lines, asked.files, asked.broken)
        print(f"{asked.lines:,} lines, {size / 1e9:.2f} GB in {asked.files} files")
        bare = _in_fresh_process("bare", logs, scratch)
        ours = _in_fresh_process("ours", logs, scratch)
    ratio = ours["seconds"] / bare["seconds"]
    print(f"bare COPY   {bare['seconds']:6.2f} s  peak {bare['peak_gb']:.2f} GB")
    print(
        f"ingest_logs {ours['seconds']:6.2f} s  peak {ours['peak_gb']:.2f} GB  {ours['ingested']:,.0f} rows, {ours['quarantined']:,.0f} quarantined"
    )
    print(f"ratio {ratio:.2f} (target {TARGET_RATIO:.1f}), peak {ours['peak_gb']:.2f} GB (target {TARGET_PEAK_GB} GB)")


if __name__ == "__main__":
    main()
