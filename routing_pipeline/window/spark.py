"""The one Spark session of a process: started when it is first needed, with the settings of `[spark]`, its words in a log.

Belongs here: starting and ending the application, what it may be set to, views that all who read them share. Does not belong
here: what is asked of it (`engine`), any query.

Each start of an application takes executors from the cluster and seconds from the run. So whoever runs many steps in one process says
so (`one_application`), and all engines that are opened meanwhile share one; otherwise it ends with the last engine that uses it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.extras import check_installed
from routing_pipeline.parameters import read_table

if TYPE_CHECKING:
    import ibis

LOG = "spark.log"
"""What Spark's Java process writes to, beside what is spilled."""

SETTINGS: Mapping[str, str] = {
    "spark.app.name": "routing-pipeline",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.sql.shuffle.partitions": "8",
    # Plans are written out as text for pages that nobody serves, and their code is kept for the next query that looks alike.
    "spark.sql.maxPlanStringLength": "2000",
    "spark.sql.ui.explainMode": "simple",
    "spark.sql.codegen.cache.maxEntries": "2000",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
"""What `[spark]` may change."""
_QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
OF_FEW_ROWS: Mapping[str, str] = {"spark.driver.extraJavaOptions": _QUICK_JAVA, "spark.executor.extraJavaOptions": _QUICK_JAVA}
"""What it may change as well, where a lake holds at most FEW_ROWS: each query ends before Java has compiled its code to the utmost."""
FEW_ROWS = 1_500_000
"""By `benchmarks/on_cluster.py` on two cores, one thread asking: 200,000 took 128 s so and 167 s with executors as Java comes, a million 213 and 231;
the straight lines through these meet at 1.7 million."""
INGEST = "spark.ingest"
"""The one setting of ours: whether its workers read the logs too."""
PYTHON = "spark.pyspark.python"
"""What Python its workers start; pyspark reads that where it is started by a script of its own alone."""
FIXED: Mapping[str, str] = {"spark.sql.session.timeZone": "UTC", "spark.sql.ansi.enabled": "false"}
"""What numbers depend on, and nobody may change."""


def spark_settings(config: Path | None) -> dict[str, str]:
    """Table `[spark]` of the configuration by full name: `executor.memory = "4g"` and `"spark.executor.memory" = "4g"` are the same.

    Raises:
        UnusableInputError: the file cannot be read, a value is no text, number or truth, or a name is one of FIXED or the master.
    """
    found = dict(_flat(read_table(config, "spark"), ""))
    for name in found:
        if name in FIXED or name == "spark.master":
            reason = "--engine says where Spark is" if name == "spark.master" else f"results rest on {FIXED[name]}"
            raise UnusableInputError(f"[spark] {name}: cannot be set; {reason}")
    if found.pop(INGEST, "false") not in {"true", "false"}:
        raise UnusableInputError("[spark] ingest: give true or false")
    return found


def settings_for(config: Path | None, rows: int) -> dict[str, str]:
    """`spark_settings` of an application that reads a lake of so many attempts: OF_FEW_ROWS beside them where it holds few.

    Raises:
        UnusableInputError: as `spark_settings`.
    """
    # What workers are about to read is in no lake yet.
    has_few = rows <= FEW_ROWS and not ingests_on_workers(config)
    return {**(OF_FEW_ROWS if has_few else {}), **spark_settings(config)}


def ingests_on_workers(config: Path | None) -> bool:
    """Whether `[spark]` says that its workers read the logs: off unless it does. Raises UnusableInputError as `spark_settings`."""
    return dict(_flat(read_table(config, "spark"), "")).get(INGEST) == "true"


def _flat(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        whole = f"{before}.{name}" if before else name if name.partition(".")[0] == "spark" else f"spark.{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, whole)
        elif isinstance(value, bool):
            yield whole, str(value).lower()
        elif isinstance(value, str | int | float):
            yield whole, str(value)
        else:
            raise UnusableInputError(f"[spark] {whole}: give text, a number, true or false")


WORKER_WITHIN_S = 180.0
"""How long a run waits for the first worker of a cluster."""
ENDS_WITHIN_S = 0.5
"""How long after its connection a Java process is gone itself."""


@dataclass
class Application:
    """What runs now: the session, how many use it, the views that were made in it."""

    users: int = 0
    settings: Callable[[], Mapping[str, str]] | None = None
    session: Any = None
    viewed: set[str] = field(default_factory=set)
    opened: dict[str, object] = field(default_factory=dict)
    """Of each view over files, when these were written and how long they are."""
    lock: RLock = field(default_factory=RLock)


_NOW = Application()


@contextmanager
def one_application(settings: Callable[[], Mapping[str, str]] | None = None) -> Iterator[None]:
    """Let all engines that are opened meanwhile share one application, which starts with the first. Costs nothing where none is.

    Args:
        settings: gives them as `settings_for` does, asked when the application starts; they hold until it ends. The first who says so decides.
    """
    with _NOW.lock:
        _NOW.users += 1
        if settings is not None and _NOW.session is None and _NOW.settings is None:
            _NOW.settings = settings
    try:
        yield
    finally:
        with _NOW.lock:
            _NOW.users -= 1
            if _NOW.users == 0:
                _end()


@contextmanager
def session_of(master: str, log: Path | None) -> Iterator[Any]:
    """The session of this process, begun where there is none.

    Args:
        master: `spark://HOST:PORT` or `local[N]`.
        log: what the Java process writes to; None: nowhere.

    Raises:
        UnusableInputError: pyspark is not installed.
        ServiceUnavailableError: it does not start.
    """
    with one_application():
        with _NOW.lock:
            if _NOW.session is None:
                _NOW.session = _begin(master, {**SETTINGS, **(_NOW.settings or dict)(), **FIXED}, log)
            session = _NOW.session
        yield session


def opened_rows(backend: Any, files: Sequence[str], name: str, written: object) -> ibis.Table:
    """Parquet files, or folders of them, as one view; found again by its name while `written` says that they are what they were.

    To look into them is a job of the workers each time, as long as many a query.
    """
    with _NOW.lock:
        if _NOW.opened.get(name) != written:
            if name in _NOW.opened:
                # Views over it may have columns that it has no longer.
                _NOW.viewed.clear()
            backend._session.read.option("mergeSchema", "true").parquet(*files).createOrReplaceTempView(name)
            _NOW.opened[name] = written
    found: ibis.Table = backend.table(name)
    return found


def viewed_rows(backend: Any, table: ibis.Table, name: str) -> ibis.Table:
    """A table under a name, for as long as the application lasts; whoever reads some of its columns reads these alone.

    Equal names mean equal tables: what is there already is not asked for again. It is not kept by the workers: rows of a window are
    columns in files already, and to put all of them into a worker's memory takes longer than all that is read of them.
    """
    with _NOW.lock:
        if name not in _NOW.viewed:
            backend._run_pre_execute_hooks(table)
            backend._session.sql(backend.compile(table)).createOrReplaceTempView(name)
            _NOW.viewed.add(name)
    found: ibis.Table = backend.table(name)
    return found


def evaluated_once(backend: Any, table: ibis.Table, name: str) -> Any:
    """Persist a table under a name; gives the frame, whose `unpersist` gives room again."""
    from pyspark import StorageLevel

    backend._run_pre_execute_hooks(table)
    frame = backend._session.sql(backend.compile(table)).persist(StorageLevel.MEMORY_AND_DISK)
    frame.createOrReplaceTempView(name)
    return frame


@contextmanager
def told_when_java_ends(master: str, log: Path | None) -> Iterator[None]:
    """Where Spark's Java process ends within, by the system's hand or for want of memory, that is said.

    Raises:
        ServiceUnavailableError: it has ended.
    """
    try:
        yield
    except Exception as error:  # py4j and pyspark raise many kinds of what they can no longer ask
        if not _has_java_ended():
            raise
        told = "nowhere" if log is None else f"in {log}"
        raise ServiceUnavailableError(f"--engine {master}: Spark's Java process has ended; its words are {told}") from error


def _has_java_ended() -> bool:
    from pyspark import SparkContext

    process = getattr(SparkContext._gateway, "proc", None)
    if process is None:
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        # The connection is gone a moment before the process is.
        process.wait(ENDS_WITHIN_S)
    return process.returncode is not None


@contextmanager
def _unless_java_has_ended() -> Iterator[None]:
    """What a process held that is gone need not be given back."""
    with contextlib.suppress(ServiceUnavailableError), told_when_java_ends("", None):
        yield


def given_back(frames: Sequence[Any]) -> None:
    """Give room again that frames of `evaluated_once` took."""
    with _unless_java_has_ended():
        for frame in frames:
            frame.unpersist()


def _begin(master: str, settings: Mapping[str, str], log: Path | None) -> Any:
    check_installed("spark", "--engine spark")
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    told = "nowhere" if log is None else f"in {log}"
    try:
        with contextlib.ExitStack() as stack:
            conf = SparkConf(loadDefaults=False).setMaster(master).setAll(list(settings.items()))
            gateway = SparkContext._gateway
            if gateway is None:
                # Standard error belongs to the command line. The Java process outlives this session and keeps the file.
                words = subprocess.DEVNULL if log is None else stack.enter_context(log.open("ab"))
                gateway = launch_gateway(conf=conf, popen_kwargs={"stdout": words, "stderr": words})  # type: ignore[no-untyped-call]
            context = SparkContext(conf=conf, gateway=gateway)
            context.pythonExec = settings.get(PYTHON) or os.environ.get("PYSPARK_PYTHON") or sys.executable
    except Exception as error:  # py4j raises many kinds, all of them mean that there is no session
        raise ServiceUnavailableError(
            f"--engine {master}: Spark did not start ({type(error).__name__}); check that Java 17 and the master are up; its words are {told}"
        ) from error
    if master.startswith("spark://") and settings.get("spark.dynamicAllocation.enabled") != "true":
        _wait_for_a_worker(context, master)
    return SparkSession(context)


def _wait_for_a_worker(context: Any, master: str) -> None:
    """Without one the first query would wait for ever, and Spark says so where nobody looks."""
    from py4j.protocol import Py4JError

    deadline = time.monotonic() + WORKER_WITHIN_S
    try:
        # The driver counts as one.
        while context._jsc.sc().getExecutorMemoryStatus().size() < 2:
            if time.monotonic() > deadline:
                context.stop()
                raise ServiceUnavailableError(
                    f"--engine {master}: no worker has joined in {WORKER_WITHIN_S:.0f} s; all may be busy, or none has as much as [spark] asks "
                    "of one (executor.memory, 1g unless set): the master's page shows what they have"
                )
            time.sleep(0.2)
    except Py4JError as error:
        context.stop()
        raise ServiceUnavailableError(
            f"--engine {master}: the master ended the application, as workers died when they began; their own logs say why"
        ) from error


def _end() -> None:
    session, _NOW.session, _NOW.settings = _NOW.session, None, None
    _NOW.viewed.clear()
    _NOW.opened.clear()
    if session is not None:
        with _unless_java_has_ended():
            session.stop()
