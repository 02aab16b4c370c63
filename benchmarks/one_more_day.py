"""One more day on top of thirty, and a run that finds nothing new, against reading all thirty-one at once.

Writes LiteLLM-shaped lines in hourly files over 31 days into a temporary folder. Times, each in a fresh process: all 31 days
into an empty home; the 31st day into a home that holds 30, read day by day; the same again with nothing new. The first two are
timed warm, since starting costs the same whatever is read; the last one with everything, from the start of Python.

    python benchmarks/one_more_day.py [--lines 3100000]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET_SHARE = 1 / 20
TARGET_NOTHING_S = 3.0
DAYS = 31
NOW_S = 1_795_500_000.0
START_S = NOW_S - DAYS * 86_400


def write_day(folder: Path, day: int, lines: int) -> None:
    """One file per hour, about 700 bytes a line."""
    rng = random.Random(day)  # noqa: S311 (made-up data)
    for hour in range(24):
        out = []
        for number in range(lines // 24):
            n = f"{day}-{hour}-{number}"
            start = START_S + day * 86_400 + hour * 3_600 + number * 3_600 / (lines // 24 + 1)
            out.append(
                f'{{"id": "chatcmpl-{n}", "litellm_call_id": "call-{n}", "trace_id": "trace-{n}", "call_type": "acompletion", "status": '
                f'"{"failure" if rng.random() < 0.01 else "success"}", "custom_llm_provider": "openai", "startTime": {start:.6f}, "endTime": '
                f'{start + 1.25:.6f}, "completionStartTime": {start + 0.5:.6f}, "stream": true, "model": "openai/gpt-4o", "model_group": '
                f'"gpt-4o", "response_cost": 0.0{number % 90}, "total_tokens": 600, "prompt_tokens": 500, "completion_tokens": 100, "end_user": '
                f'"user-{number % 5000}", "request_tags": ["task_type:code"], "metadata": {{"user_api_key_request_route": '
                f'"/v1/chat/completions", "user_api_key_team_alias": "team-{number % 7}"}}, "padding": "{"x" * 120}"}}'
            )
        (folder / f"{day:02d}-{hour:02d}.jsonl").write_text("\n".join(out) + "\n", encoding="utf-8")


def _child(logs: Path, home: Path, *, warm: bool) -> None:
    from routing_pipeline.ingest.ingestion import ingest_logs
    from routing_pipeline.storage.home import Home

    if warm:
        with tempfile.TemporaryDirectory() as temporary:
            write_day(Path(temporary), 0, 24)
            ingest_logs(Home(Path(temporary) / "home"), temporary, now_s=NOW_S)
    began = time.monotonic()
    result = ingest_logs(Home(home), str(logs), now_s=NOW_S)
    print(json.dumps({"seconds": time.monotonic() - began, "ingested": result.ingested}))


def read(logs: Path, home: Path, *, warm: bool = True) -> tuple[float, float, int]:
    """Seconds of the ingestion, seconds of the whole process, rows."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--child", str(logs), "--home", str(home), *(["--warm"] if warm else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    return figures["seconds"], time.monotonic() - began, figures["ingested"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=3_100_000)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child, asked.home, warm=asked.warm)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        logs = root / "logs"
        logs.mkdir()
        for day in range(DAYS):
            write_day(logs, day, asked.lines // DAYS)
            if day < DAYS - 1:
                read(logs, root / "grown")
        grown_s, _, added = read(logs, root / "grown")
        _, nothing_s, none = read(logs, root / "grown", warm=False)
        full_s, _, rows = read(logs, root / "full")
    print(f"all {DAYS} days    {full_s:6.2f} s  {rows:,} rows")
    print(f"one more day   {grown_s:6.2f} s  {added:,} rows: 1/{full_s / grown_s:.1f} (target 1/{1 / TARGET_SHARE:.0f})")
    print(f"nothing new    {nothing_s:6.2f} s with the start of Python (target {TARGET_NOTHING_S:.0f} s)")
    if none:
        raise SystemExit(f"{none} rows were read a second time")


if __name__ == "__main__":
    main()
