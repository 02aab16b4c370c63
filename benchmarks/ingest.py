"""Ingestion against a bare DuckDB COPY of the same files: the price of validation, deduplication, quarantine and commit.

Writes LiteLLM-shaped records into a temporary folder, then times, each in a fresh process and within this run,
`COPY (SELECT typed columns FROM read_json(...)) TO parquet` and `ingest_logs`. Prints both, their ratio, and peak memory.
Ratios of processor time are printed beside those of wall time: on a busy machine they are the steadier ones.

    python benchmarks/ingest.py [lines] [broken] [wide] [gzip] [--lines 2000000] [--files 32] [--folder DIR]

lines   1 KB each
broken  the same with 0.5 % of them broken, in every file
wide    13 KB each, as the gateway writes them: 10 KB of it a table of prices; an eighth as many
gzip    packed files; --lines of them against --many (20 million) of them: does a row take the same time? Not run unless named.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET_RATIO = 1.6
TARGET_WIDE_RATIO = 1 / 0.7
TARGET_PEAK_GB = 1.5
TARGET_GROWTH = 1.15
TARGET_MANY_PEAK_GB = 2.0
BROKEN = 0.005

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


def _wide_rest() -> str:
    """What a record holds beside what is read: the model's table of prices and the conversation."""
    prices = {f"{kind}_cost_per_{unit}_above_{size}k_tokens_{tier}": 2.5e-06 for kind in ("input", "output", "cache_read_input_token")
              for unit in ("token", "character", "image") for size in (128, 200, 272) for tier in ("standard", "batch", "priority", "flex")}  # fmt: skip
    prices |= {f"supports_{n}": None for n in range(120)}
    table = {"model_map_key": "gpt-4o", "model_map_value": prices}
    text = json.dumps('A prompt with "quotes", a path C:\\logs and é. ' * 25)
    return f', "model_map_information": {json.dumps(table)}, "messages": [{{"role": "user", "content": {text}}}], "response": {text}}}'


def write_lines(folder: Path, lines: int, files: int, broken: float = 0.0, *, wide: bool = False, packed: bool = False) -> int:
    """Lines over a week, `files` files; gives bytes written."""
    rng = random.Random(1)  # noqa: S311 (made-up data)
    written = 0
    per_file = lines // files
    rest = _wide_rest() if wide else ""
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
            if wide:
                out[-1] = out[-1][:-1] + rest
        content = ("\n".join(out) + "\n").encode()
        (folder / f"batch-{number:04d}.jsonl").write_bytes(gzip.compress(content, 1) if packed else content)
        written += len(content)
    return written


def peak_gb() -> float:
    """Peak resident memory of this process since it began; `ru_maxrss` would count its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024**2


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
    from routing_pipeline.ingest.ingestion import ingest_logs
    from routing_pipeline.storage.home import Home

    result = ingest_logs(Home(scratch / "home"), str(logs))
    return {"seconds": time.monotonic() - began, "ingested": result.ingested, "quarantined": result.quarantined, "records": result.records}


def _in_fresh_process(what: str, logs: Path, scratch: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, "--folder", str(logs), "--scratch", str(scratch)]
    # Compiling a hundred modules anew is no part of ingestion.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _child(what: str, logs: Path, scratch: Path) -> None:
    figures = bare_copy(logs, scratch) if what == "bare" else our_ingestion(logs, scratch)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures |= {"cpu": usage.ru_utime + usage.ru_stime, "peak_gb": peak_gb()}
    print(json.dumps(figures))


def against_the_bare_copy(case: str, lines: int, files: int, folder: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        logs, scratch = Path(temporary) / "logs", Path(temporary) / "scratch"
        logs.mkdir()
        scratch.mkdir()
        size = write_lines(logs, lines, files, BROKEN if case == "broken" else 0.0, wide=case == "wide")
        print(f"{case}: {lines:,} lines, {size / 1e9:.2f} GB in {files} files")
        bare = _in_fresh_process("bare", logs, scratch)
        ours = _in_fresh_process("ours", logs, scratch)
    target = TARGET_WIDE_RATIO if case == "wide" else TARGET_RATIO
    for name, each in (("bare COPY", bare), ("ingest_logs", ours)):
        print(
            f"  {name:12} {each['seconds']:6.2f} s  cpu {each['cpu']:6.2f} s  peak {each['peak_gb']:.2f} GB  {size / each['seconds'] / 1e6:.0f} MB/s"
        )
    print(f"  {ours['ingested']:,.0f} rows, {ours['quarantined']:,.0f} quarantined")
    print(
        f"  ratio {ours['seconds'] / bare['seconds']:.2f} of wall time, {ours['cpu'] / bare['cpu']:.2f} of processor time (target {target:.2f}), "
        f"peak {ours['peak_gb']:.2f} GB (target {TARGET_PEAK_GB} GB)"
    )


def against_fewer(lines: int, many: int, files: int, folder: Path | None) -> None:
    """Packed files: how the time per row and the memory grow with their number."""
    per_row, per_row_cpu, peak = {}, {}, 0.0
    for count in (lines, many):
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            logs, scratch = Path(temporary) / "logs", Path(temporary) / "scratch"
            logs.mkdir()
            scratch.mkdir()
            write_lines(logs, count, files, packed=True)
            ours = _in_fresh_process("ours", logs, scratch)
        per_row[count], per_row_cpu[count], peak = ours["seconds"] / count, ours["cpu"] / count, ours["peak_gb"]
        print(
            f"gzip: {ours['ingested']:,.0f} rows in {ours['seconds']:.1f} s, cpu {ours['cpu']:.1f} s, {per_row[count] * 1e6:.2f} us a row, peak {peak:.2f} GB",
            flush=True,
        )
    print(
        f"  time per row {per_row[many] / per_row[lines]:.2f} times that of {lines:,} (processor time {per_row_cpu[many] / per_row_cpu[lines]:.2f}; "
        f"target {TARGET_GROWTH}), peak {peak:.2f} GB (target {TARGET_MANY_PEAK_GB} GB)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["lines", "broken", "wide"], help="lines, broken, wide, gzip")
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--many", type=int, default=20_000_000)
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--child", choices=("bare", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child, asked.folder, asked.scratch)
        return
    for case in asked.cases:
        if case == "gzip":
            against_fewer(asked.lines, asked.many, asked.files, asked.folder)
        else:
            against_the_bare_copy(case, asked.lines // 8 if case == "wide" else asked.lines, asked.files, asked.folder)


if __name__ == "__main__":
    main()
