"""A standalone Spark cluster on this machine: one master and two workers, of the classes that pyspark brings."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

WORKERS = 2
DEADLINE_S = 60.0

NEEDS_SPARK = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no `java` here"),
    pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed; the extra `spark` brings it"),
]
"""Marks of tests that start Spark."""

SMALL = ("-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Of Java processes that live for a minute and compute nothing themselves."""


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Start master and workers, each with one core and a gigabyte for executors; gives the master's address, and ends them all."""
    with ExitStack() as stack:
        said = _started(stack, folder, "master", "master.Master", "--port", "0")
        master = _waited_for(said, r"Starting Spark master at (spark://\S+)")
        for number in range(WORKERS):
            _started(
                stack,
                folder,
                f"worker-{number}",
                "worker.Worker",
                "--cores",
                "1",
                "--memory",
                "1g",
                "--work-dir",
                str(folder / f"work-{number}"),
                master,
            )
        _waited_for(said, rf"(?s)(?:(Registering worker).*?){{{WORKERS}}}")
        yield master


def _started(stack: ExitStack, folder: Path, name: str, kind: str, *words: str) -> Path:
    import pyspark

    said = folder / f"{name}.log"
    home = Path(pyspark.__file__).parent
    # As Spark's own scripts say before they start a worker.
    spark = {"SPARK_HOME": str(home), "SPARK_SCALA_VERSION": _scala_of(home)}
    environment = {**os.environ, **spark, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    process = subprocess.Popen(
        [
            "java",
            *SMALL,
            "-cp",
            str(home / "jars" / "*"),
            f"org.apache.spark.deploy.{kind}",
            "--host",
            "127.0.0.1",
            "--webui-port",
            "0",
            *words,
        ],
        stdout=said.open("wb"),
        stderr=subprocess.STDOUT,
        env=environment,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return said


def _waited_for(said: Path, pattern: str) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while (found := re.search(pattern, said.read_text(errors="replace"))) is None:
        assert time.monotonic() < deadline, said.read_text(errors="replace")
        time.sleep(0.1)
    return found[1]


def _scala_of(home: Path) -> str:
    (library,) = (home / "jars").glob("spark-core_*.jar")
    return library.name.removeprefix("spark-core_").partition("-")[0]
