"""Many small objects, one LiteLLM record of 12 KB in each: ingestion against bare clients of the same store.

swift   OpenStack Swift on loopback (tests/integration/s3_server.py): `ingest_logs` against a client that does nothing but
        GET the same objects side by side and throws them away. Store and clients share the machine.
fake    an S3 server inside the measuring process that answers from memory: fetching as ingestion does, and `ingest_logs`,
        against boto3 with one thread and with sixteen.

    python benchmarks/ingest_objects.py [swift] [fake] [--objects 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration"))
sys.path.insert(0, str(Path(__file__).parent))
import s3_server
from ingest import peak_gb, write_lines

BUCKET = "many"
CLIENTS = 16
TARGET_OF_BARE = 0.85
TARGET_OF_BOTO3 = 3.0


def objects(count: int) -> dict[str, bytes]:
    """Keys as LiteLLM writes them, with a record of about 12 KB each."""
    with tempfile.TemporaryDirectory() as folder:
        write_lines(Path(folder), count, 1, wide=True)
        lines = (Path(folder) / "batch-0000.jsonl").read_bytes().splitlines()
    return {
        f"logs/2026-11-{1 + n % 28:02d}/time-{n:06d}_chatcmpl-{n}.json": line.replace(b"_flex", b"")[:-1] + b"}"
        for n, line in enumerate(lines)
    }


def bare_gets(keys: list[str]) -> None:
    """All bodies, CLIENTS at a time, thrown away."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region="us-east-1",
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in pool.map(lambda key: obstore.get(store, key).bytes(), keys):
            pass


def boto3_gets(keys: list[str], threads: int) -> None:
    """All bodies by boto3, thrown away."""
    import boto3
    from botocore.config import Config

    client = boto3.session.Session().client("s3", config=Config(max_pool_connections=threads, s3={"addressing_style": "path"}))
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read(), keys):
            pass


def staged_gets(count: int) -> None:
    """All bodies as ingestion fetches and stages them, without what comes after."""
    from routing_pipeline.ingest.objects import open_source
    from routing_pipeline.ingest.staging.stager import Stager

    source = open_source(f"s3://{BUCKET}/logs")
    with tempfile.TemporaryDirectory() as folder:
        for _ in Stager(source, Path(folder), None).batches(list(enumerate(source.list_objects()))[:count]):
            pass


def our_ingestion(count: int) -> None:
    """ingest_logs into an empty home, listing included."""
    from routing_pipeline.ingest.ingestion import ingest_logs
    from routing_pipeline.storage.home import Home

    with tempfile.TemporaryDirectory() as folder:
        result = ingest_logs(Home(Path(folder) / "home"), f"s3://{BUCKET}/logs")
    assert result.ingested == count, result


def measured(name: str, count: int, work: Callable[[], None]) -> float:
    """Objects a second; printed with the processor time of this process for one."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    print(f"  {name:32} {count / wall:7.0f} objects/s  {cpu / count * 1e3:6.2f} ms of processor time each", flush=True)
    return count / wall


def _child(what: str) -> None:
    keys: list[str] = json.load(sys.stdin)
    began = time.monotonic()
    if what == "bare":
        bare_gets(keys)
    else:
        our_ingestion(len(keys))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": time.monotonic() - began, "cpu": usage.ru_utime + usage.ru_stime, "peak_gb": peak_gb()}))


def _in_fresh_process(what: str, keys: list[str]) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, __file__, "--child", what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, input=json.dumps(keys), env=environment)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    rate = len(keys) / answer["seconds"]
    print(
        f"  {what:32} {rate:7.0f} objects/s  {answer['cpu'] / len(keys) * 1e3:6.2f} ms of processor time each, peak {answer['peak_gb']:.2f} GB",
        flush=True,
    )
    return answer | {"rate": rate}


def against_swift(count: int) -> None:
    import obstore
    from obstore.store import S3Store

    bodies = objects(count)
    with tempfile.TemporaryDirectory() as folder, s3_server.running(Path(folder) / "swift") as server:
        point_at(server.endpoint, *s3_server.OWNER)
        import boto3

        boto3.session.Session().client("s3").create_bucket(Bucket=BUCKET)
        store = S3Store(
            BUCKET,
            endpoint=server.endpoint,
            region="us-east-1",
            access_key_id=s3_server.OWNER[0],
            secret_access_key=s3_server.OWNER[1],
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            for _ in pool.map(lambda item: obstore.put(store, *item), bodies.items()):
                pass
        size = sum(map(len, bodies.values())) / count
        print(f"swift: {count:,} objects of {size / 1e3:.1f} KB, written in {time.monotonic() - began:.0f} s", flush=True)
        # Before and after, because a busy machine drifts.
        before = _in_fresh_process("bare", list(bodies))
        ours = _in_fresh_process("ours", list(bodies))
        after = _in_fresh_process("bare", list(bodies))
    bare = 2 / (1 / before["rate"] + 1 / after["rate"])
    print(f"  {ours['rate'] / bare:.2f} of the bare client's rate (target {TARGET_OF_BARE})")


def against_fake(count: int) -> None:
    bodies = objects(count)
    keys = list(bodies)
    some = keys[: max(1, count // 10)]
    print(f"fake: {count:,} objects in memory, {sum(map(len, bodies.values())) / count / 1e3:.1f} KB each")
    with fake_store(bodies) as endpoint:
        point_at(endpoint, "key", "secret")
        boto3_gets(some[:10], 1)
        one = measured("boto3, 1 thread", len(some), lambda: boto3_gets(some, 1))
        measured(f"boto3, {CLIENTS} threads", len(some), lambda: boto3_gets(some, CLIENTS))
        bare_gets(some[:10])
        measured(f"obstore, {CLIENTS} threads", count, lambda: bare_gets(keys))
        staged = measured("fetched and staged", count, lambda: staged_gets(count))
        whole = measured("ingest_logs", count, lambda: our_ingestion(count))
    print(f"  fetching {staged / one:.1f} times boto3 with one thread, ingesting {whole / one:.1f} times (target {TARGET_OF_BOTO3})")


def point_at(endpoint: str, key: str, secret: str) -> None:
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class _Fake(asyncio.Protocol):
    """Just enough of S3: GET of a key, and one listing page of everything."""

    def __init__(self, bodies: dict[str, bytes], listing: bytes) -> None:
        self.bodies, self.listing = bodies, listing
        self.waiting = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            if "?" in path:
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%b" % (len(self.listing), self.listing)
                )
                continue
            body = self.bodies[unquote(path).removeprefix(f"/{BUCKET}/")]
            self.transport.write(
                b'HTTP/1.1 200 OK\r\nETag: "e"\r\nLast-Modified: Sun, 01 Nov 2026 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n%b'
                % (len(body), body)
            )


@contextmanager
def fake_store(bodies: dict[str, bytes]) -> Iterator[str]:
    entries = "".join(
        f"<Contents><Key>{key}</Key><ETag>&quot;e&quot;</ETag><Size>{len(body)}</Size></Contents>" for key, body in bodies.items()
    )
    listing = (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><KeyCount>{len(bodies)}</KeyCount><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    ).encode()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: _Fake(bodies, listing), "127.0.0.1", 0))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["fake", "swift"], help="swift, fake")
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--child", choices=("bare", "ours"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child)
        return
    for case in asked.cases:
        (against_swift if case == "swift" else against_fake)(asked.objects)


if __name__ == "__main__":
    main()
