"""The runs of a home: which analysis each is about, what it published, and which of them is the latest.

Belongs here: begun, kept and pruned runs. Does not belong here: results (`results`), making files from what a run kept
(`report.rebuilding`).

Under the store's root, `latest` standing beside the ids:
    <run id>/key               the key of its analysis (`latest`: of the newest that began)
    <run id>/state             what the home was like when it began (`report.unchanged`)
    <run id>/report.json, exploration.json, published.json      what it published, and digests of the files
    <run id>/files/<name>.gz   the files themselves
    latest/delivered           id of the run that delivered last of no alert and no experiment
"""

from __future__ import annotations

import gzip
import hashlib
import json
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Result
from routing_pipeline.storage.files import Entry, Storage, read_text
from routing_pipeline.storage.results import UNUSED_DAYS, AnyResult, file_of_id, is_id, read_result
from routing_pipeline.storage.retention import Limits, unused

READERS = 8
RUNS_KEPT = 100
RUNS_WITH_RESULTS = 10
"""The newest runs keep every result beside their report, however long nobody reads them."""
LATEST, FILES = "latest", "files"


@dataclass(frozen=True)
class StoredRun:
    """One run that delivered a report; `files` are SHA-256 digests of what it published, by name.

    A run that an alert started tells of one day, and one that was asked for by options of its own is an experiment; neither is
    the newest report, about whose rules people decide. `question` tells what was asked, the end of the window apart.
    """

    run_id: str
    key: str
    code: str
    published_s: float
    files: Mapping[str, str]
    storage: Storage
    is_of_alert: bool = False
    is_experiment: bool = False
    question: str = ""

    def load(self, name: str, kind: type[AnyResult]) -> AnyResult | None:
        """`report` or `exploration` as it was published; None when there is none, or another version of the model wrote it."""
        return read_result(self.storage, f"{name}.json", kind)

    def content(self, name: str) -> bytes | None:
        """The same as JSON."""
        return self.storage.read(f"{name}.json")

    def published(self) -> dict[str, bytes] | None:
        """The files as they were published, by name; None where one is not there, or is another than was published."""
        found: dict[str, bytes] = {}
        for name, digest in self.files.items():
            kept = self.storage.read(f"{FILES}/{name}.gz")
            try:
                content = None if kept is None else gzip.decompress(kept)
            except (OSError, EOFError, zlib.error):
                content = None
            if content is None or hashlib.sha256(content).hexdigest() != digest:
                return None
            found[name] = content
        return found or None


class RunStore:
    """Runs as small files; see the module's own words for where."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def begin(self, run_id: str, key: str, *, is_of_alert: bool = False) -> None:
        """Remember which analysis a run is about; it is the newest from now on, unless an alert started it."""
        for name in (run_id,) if is_of_alert else (run_id, LATEST):
            self.storage.write(f"{file_of_id(name)}/key", key.encode())

    def note_state(self, run_id: str, state: str) -> None:
        """Remember what a home was like when a run began to read it."""
        self.storage.write(f"{file_of_id(run_id)}/state", state.encode())

    def state_of(self, run_id: str) -> str | None:
        """That state; None where nobody noted it."""
        return read_text(self.storage, f"{file_of_id(run_id)}/state")

    def key_of(self, *run_ids: str | None) -> str | None:
        """The analysis of the first of these runs that began one, else that of the newest; None when there is none."""
        for name in (*filter(None, run_ids), LATEST):
            if (found := read_text(self.storage, f"{file_of_id(name)}/key")) is not None:
                return found
        return None

    def keep(
        self,
        run_id: str,
        report: Result,
        exploration: Result | None,
        files: Mapping[str, bytes],
        *,
        key: str | None = None,
        is_of_alert: bool = False,
        is_experiment: bool = False,
        question: str = "",
        code: str = "",
    ) -> None:
        """Keep what a run published, so that the files can be made again from it; the last to be kept of no alert and no experiment is the latest.

        `key` names the analysis of a run that went on where another one ended, and never began it by itself; `code` what made the files. The others: see `StoredRun`.
        """
        folder = file_of_id(run_id)
        if key is not None:
            self.storage.write(f"{folder}/key", key.encode())
        self.storage.write(f"{folder}/report.json", report.model_dump_json().encode())
        if exploration is not None:
            self.storage.write(f"{folder}/exploration.json", exploration.model_dump_json().encode())
        for name, content in files.items():
            self.storage.write(f"{folder}/{FILES}/{name}.gz", gzip.compress(content, mtime=0))
        published = {
            "code": code,
            "published_s": time.time(),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "is_of_alert": is_of_alert,
            "is_experiment": is_experiment,
            "question": question,
        }
        self.storage.write(f"{folder}/published.json", json.dumps(published, indent=1).encode())
        if not is_of_alert and not is_experiment:
            self.storage.write(f"{LATEST}/delivered", run_id.encode())

    def deliver_again(self, run: StoredRun) -> None:
        """Let a kept run be the newest, as if it had been made now; what it was no candidate for, it does not become."""
        self.begin(run.run_id, run.key, is_of_alert=run.is_of_alert)
        if not run.is_of_alert and not run.is_experiment:
            self.storage.write(f"{LATEST}/delivered", run.run_id.encode())

    def latest(self) -> StoredRun | None:
        """The run that delivered last of no alert and no experiment, without looking at the others; None when there is none.

        Where every run was asked for by options of its own, and all by the same ones, that is the home's question, and the last of them the latest.
        """
        run_id = read_text(self.storage, f"{LATEST}/delivered")
        run = None if run_id is None else self.get(run_id)
        if run is not None and not run.is_experiment:
            return run
        asked = [each for each in self.all() if not each.is_of_alert]
        usual = [each for each in asked if not each.is_experiment]
        if usual:
            return usual[0]
        return asked[0] if len({each.question for each in asked}) == 1 else None

    def why_no_latest(self) -> str:
        """Why `latest` stands for nothing here, and what to do."""
        if any(not run.is_of_alert for run in self.all()):
            return (
                "every report of this home answers a question of its own (options that the configuration does not have), so none is the latest; "
                "name a rule set by its id, or make a report without such options"
            )
        return "no report has been made in this home yet; make one with routing-pipeline run or routing-pipeline analyze, then `latest` names its rules"

    def all(self) -> tuple[StoredRun, ...]:
        """Runs that delivered a report, newest first."""
        names = [each.name for each in self.storage.children()]
        # A bucket takes a while to answer, and as long for several.
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(self.get, names))
        return tuple(sorted((run for run in found if run is not None), key=lambda run: (-run.published_s, run.run_id)))

    def get(self, run_id: str) -> StoredRun | None:
        """The run of this id, None when it never delivered a report here."""
        if not is_id(run_id):
            return None
        kept = self.storage.below(file_of_id(run_id))
        published = read_text(kept, "published.json")
        key = None if published is None else read_text(kept, "key")
        return None if key is None or published is None else StoredRun(run_id=run_id, key=key, storage=kept, **json.loads(published))

    def prune(self, now_s: float) -> tuple[int, frozenset[str]]:
        """Drop runs beyond RUNS_KEPT but the latest, alerts' apart, and those that delivered nothing for UNUSED_DAYS.

        Gives how many went, and the keys of the analyses whose results stay with the runs that do.
        """
        runs, latest = self.all(), self.latest()
        # However many experiments came after it.
        stays = set() if latest is None else {file_of_id(latest.run_id)}
        dropped: list[str] = []
        keys = {self.key_of()}
        for is_of_alert in (False, True):
            alike = [run for run in runs if run.is_of_alert is is_of_alert]
            delivered = [Entry(file_of_id(run.run_id), run.published_s) for run in alike]
            dropped += unused(delivered, Limits(most=RUNS_KEPT), now_s=now_s, reachable=stays)
            keys |= {run.key for run in alike[:RUNS_WITH_RESULTS]}
        known = {file_of_id(run.run_id) for run in runs} | {LATEST}
        dropped += unused(self.storage.children(), Limits(unused_s=UNUSED_DAYS * SECONDS_PER_DAY), now_s=now_s, reachable=known)
        for run_id in dropped:
            self.storage.delete_below(run_id)
        return len(dropped), frozenset(key for key in keys if key is not None)
