"""Ingestions that are killed where a test says, and the logs that they read.

The process imports once and forks for each run asked for, because importing takes longer than running.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Ingest = Callable[[list[list[Any]]], list[int]]
"""Runs several at once, each (arguments of its Home, logs, now_s, bytes of a batch or None, owner, function, when); gives their exit codes.

With an owner a run kills itself, before or after the second call of the owner's function; the owner `moment` kills it after `when`
seconds, whatever it does just then. Without one it goes through. With a further argument it reads in shares, as if workers had them.
"""

_SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import boto3, duckdb, psycopg2, pyarrow.parquet, pyiceberg.catalog.sql, pyiceberg.table
from routing_pipeline.storage.home import Home
from routing_pipeline.ingest import batch, ingestion, shares
from routing_pipeline.ingest.staging import stager
from routing_pipeline.lake import table

class Workers:
    def each(self, work, given):
        return map(work, given)

def run(home, logs, now_s, batch_bytes, owner, function, when, in_shares=False):
    shares.SHARE_BYTES = 1
    if batch_bytes is not None:
        stager.BATCH_BYTES = batch_bytes
        ingestion.COMMIT_EVERY_S = 0.0
    if owner == "moment":
        # A timer of the kernel's: whatever the process does just then, it ends.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, float(when))
    elif owner:
        holder = getattr(batch, owner, None) or getattr(table, owner)
        original = getattr(holder, function)
        calls = []
        def dying(*arguments, **options):
            calls.append(1)
            if when == "before" and len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **options)
            if when == "after" and len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        setattr(holder, function, dying)
    ingestion.ingest_logs(Home(Path(home[0]), *home[1:]), logs, now_s=now_s, workers=Workers() if in_shares else None)

for line in sys.stdin:
    children = []
    for asked in json.loads(line):
        child = os.fork()
        if not child:
            try:
                run(*asked)
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        children.append(child)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""


@contextmanager
def running() -> Iterator[Ingest]:
    """The process, with the environment of the moment."""
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    asked, answered = process.stdin, process.stdout
    assert asked is not None
    assert answered is not None

    def ask(runs: list[list[Any]]) -> list[int]:
        asked.write(json.dumps(runs) + "\n")
        asked.flush()
        codes: list[int] = json.loads(answered.readline())
        return codes

    yield ask
    asked.close()
    process.wait()


def write_logs(folder: Path, files: int, lines: int, broken_every: int) -> Path:
    """Files of so many lines; the last tenth of each repeats the beginning of the next one, and one line in `broken_every` is broken."""
    for file in range(files):
        written = []
        for number in range(lines):
            n = file * lines * 9 // 10 + number
            start = 1_795_400_000.0 + n
            record = {
                "id": f"r{n}",
                "litellm_call_id": f"c{n}",
                "startTime": start,
                "endTime": start + 1,
                "status": "success",
                "model": "m",
            }
            team = {"metadata": {"user_api_key_team_alias": "squad-of-b" if n % 3 == 0 else "a"}}
            is_broken = number % broken_every == 50
            written.append("broken" if is_broken else json.dumps(record | team | {"response_cost": 0.01, "padding": "x" * 250}))
        (folder / f"{file}.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")
    return folder
