"""SQL that comes with the package: compiled when it was made, so that the first run in a new home compiles next to none.

Belongs here: the file of them, reading it, making it. Does not belong here: when SQL that was compiled before is believed
(`compiled_before`), what makes two expressions one query (`compiled`).

A query is found by its shape and by the versions of what compiles it: where either differs it is compiled as ever. Made anew, after
queries or versions changed, by

    python -m routing_pipeline.window.first_queries
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from routing_pipeline.window.compiled_before import QUERIES

FILE = Path(__file__).with_suffix(".json.gz")


def find(name: str) -> str | None:
    """The SQL under a name of `compiled_before`; None where none came along."""
    return _all().get(name)


@cache
def _all() -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(gzip.decompress(FILE.read_bytes()))
    except (OSError, EOFError, ValueError):
        # It only saves time.
        return {}
    return known


def write(kept: Iterable[Path], to: Path = FILE) -> int:
    """Put what homes have compiled into one file; gives how many queries. The same queries give the same bytes."""
    found = {path.name: path.read_text(encoding="utf-8").partition("\n")[2] for folder in kept for path in folder.glob("*.sql")}
    to.write_bytes(gzip.compress(json.dumps(found, sort_keys=True).encode(), mtime=0))
    return len(found)


def _homes(place: Path) -> list[Path]:
    """Homes in which the commands of a first hour were run: the demo's, and two of logs without any score, of which callers say little and much."""
    ours, environment = (sys.executable, "-m", "routing_pipeline"), {**os.environ, "ROUTING_PIPELINE_PARALLEL_STEPS": "1"}
    demo, out = place / "demo", ("--out", str(place / "report"))

    def run(*words: str) -> None:
        subprocess.run([*ours, *words], env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ours

    run("demo", "--home", str(demo), *out)
    goals = [("analyze", "--goal", goal) for goal in ("cost", "quality", "speed")]
    for words in (*goals, ("analyze", "--timeframe", "24h"), ("ask", "get_routing_costs", "--timeframe", "24h")):
        run(*words, "--home", str(demo), *(out if words[0] == "analyze" else ()))
    homes = [demo]
    for name, told in (("little", lambda _: {}), ("much", _told)):
        logs, home = place / f"{name}-logs", place / name
        logs.mkdir()
        (logs / "calls.jsonl").write_text("".join(_lines(told)), encoding="utf-8")
        run("run", "--logs", str(logs), "--home", str(home), *out)
        homes.append(home)
    return homes


def _told(n: int) -> dict[str, Any]:
    """What callers and the proxy may say besides: session, task, complexity, parts of tokens, retries, the router's own time."""
    metadata = {
        "user_api_key_request_route": "/v1/chat/completions",
        "user_api_key_team_alias": f"team-{n % 4}",
        "requester_metadata": {"task_type": ("chat", "code", "summary")[n % 3], "complexity": n % 1000 / 1000, "session_id": f"s-{n // 3}"},
        "usage_object": {
            "prompt_tokens_details": {"cached_tokens": 64 * (n % 2)},
            "completion_tokens_details": {"reasoning_tokens": n % 5},
        },
    }
    headers = {"x-litellm-attempted-retries": n % 50 // 49, "x-litellm-attempted-fallbacks": 0}
    return {
        "metadata": metadata,
        "model_id": f"deployment-{n % 3}",
        "completionStartTime": 1_777_900_000 + n * 200 + 0.3,
        "hidden_params": {"litellm_overhead_time_ms": 5 + n % 9, "additional_headers": headers},
    }


def _lines(told: Callable[[int], dict[str, Any]]) -> Iterable[str]:
    """As LiteLLM writes them, without anything that could be a score, and with what else is told of a call."""
    for n in range(3_000):
        start = 1_777_900_000 + n * 200
        call = {
            "id": f"chatcmpl-{n}",
            "litellm_call_id": f"call-{n}",
            "trace_id": f"trace-{n}",
            "call_type": "acompletion",
            "cache_hit": False,
            "status": "success",
            "custom_llm_provider": "openai",
            "startTime": start,
            "endTime": start + 0.5 + n % 700 / 1000,
            "model": ("gpt-4o", "gpt-4o-mini", "gpt-4.1")[n % 3],
            "model_group": ("gpt-4o", "gpt-4o-mini", "gpt-4.1")[n % 3],
            "response_cost": 0.001 * (1 + n % 3),
            "prompt_tokens": 200 + n % 900,
            "completion_tokens": 50 + n % 90,
            "total_tokens": 250 + n % 900 + n % 90,
            "end_user": f"user-{n % 200}",
            "metadata": {"user_api_key_team_alias": f"team-{n % 4}"},
            "request_tags": [f"task:{n % 5}"],
        }
        yield json.dumps(call | told(n)) + "\n"


def main() -> None:
    """Make the file anew; says how many queries it holds."""
    before = FILE.read_bytes() if FILE.exists() else None
    FILE.unlink(missing_ok=True)
    try:
        with tempfile.TemporaryDirectory() as name:
            print(f"{write([home / 'scratch' / QUERIES for home in _homes(Path(name))]):,} queries")  # noqa: T201 - for whoever makes it
    except BaseException:
        if before is not None:
            FILE.write_bytes(before)
        raise


if __name__ == "__main__":
    main()
