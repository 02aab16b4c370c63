"""Logs in buckets: against servers that speak S3 over a socket, well-behaved ones and one that is not."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
import s3_server
from moto.server import ThreadedMotoServer

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.ingest import bodies
from routing_pipeline.ingest.ingestion import ingest_feedback, ingest_logs
from routing_pipeline.ingest.objects import S3Source, StoredObject
from routing_pipeline.ingest.staging import fetch
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home

NOW_S = 1_795_500_000.0
SECRET = "very-secret-key-8086"


def record(number: int) -> bytes:
    start = 1_795_400_000.0 + number
    fields = {"id": f"r{number}", "litellm_call_id": f"c{number}", "startTime": start, "endTime": start + 1}
    return json.dumps(fields | {"status": "success", "model": "m", "response_cost": 0.01}).encode()


def lines(*numbers: int) -> bytes:
    return b"".join(record(number) + b"\n" for number in numbers)


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str, key: str = "key", secret: str = SECRET) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["moto", "swift"])
def s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    key, secret = s3_server.OWNER if request.param == "swift" else ("key", SECRET)
    point_at(monkeypatch, endpoint, key, secret)
    return boto3.session.Session().client("s3")


def filled(s3: Any, bucket: str, objects: dict[str, bytes]) -> str:
    s3.create_bucket(Bucket=bucket)
    for key, body in objects.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    return bucket


def test_a_prefix_is_read_across_pages_kinds_and_odd_keys_and_only_once(s3: Any, tmp_path: Path) -> None:
    objects = {f"logs/prod/2026-11-22/time-{number}.json": record(number) for number in range(30)}
    objects |= {
        "logs/prod/batch one & two's [*]?.jsonl": lines(100, 101, 0),
        "logs/prod/zipped": gzip.compress(lines(200, 201)),
        "logs/prod/audit_logs/a.json": record(300),
        "logs/prod/marker/": b"",
        "logs/production-of-others/x.jsonl": lines(400),
    }
    bucket = filled(s3, "paged", objects)
    home = Home(tmp_path / "home")
    result = ingest_logs(home, f"s3://{bucket}/logs/prod/", now_s=NOW_S)
    assert (result.source, result.objects_listed) == (f"s3://{bucket}/logs/prod", 32)
    assert (result.records, result.ingested, result.duplicates) == (35, 34, 1)
    again = ingest_logs(home, f"s3://{bucket}/logs/prod", now_s=NOW_S)
    assert (again.objects_new, again.objects_skipped, again.snapshot_id) == (0, 32, result.snapshot_id)
    s3.put_object(Bucket=bucket, Key="logs/prod/zipped", Body=gzip.compress(lines(200, 201, 202)))
    rewritten = ingest_logs(home, f"s3://{bucket}/logs/prod", now_s=NOW_S)
    assert (rewritten.objects_new, rewritten.ingested, rewritten.duplicates, rewritten.replaced) == (1, 3, 0, 2)


def test_keys_are_only_names(s3: Any, tmp_path: Path) -> None:
    keys = [
        "logs/../../escape.json",
        "logs//double.json",
        "logs/'; DROP TABLE conformed; --.json",
        "logs/%2e%2e/%2fx.json",
        "logs/ünï 😀~.json",
        "logs/a+b=c&d#e.json",
        "logs/read_json('*').json",
        "logs/plain.json",
    ]
    bucket = filled(s3, "names", {key: record(number) for number, key in enumerate(keys)})
    (tmp_path / "home").mkdir()
    result = ingest_logs(Home(tmp_path / "home" / "h"), f"s3://{bucket}", now_s=NOW_S)
    ledger = Lake(Home(tmp_path / "home" / "h")).side_table("ledger").to_pylist()
    # What begins with a dot is hidden, here as on a disk.
    assert result.ingested == len(keys) - 1
    assert {row["object"] for row in ledger} == set(keys[1:])
    assert [path.name for path in tmp_path.rglob("*escape*")] == []


def test_an_object_beyond_the_limit_is_refused_without_being_fetched(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SMALL_BYTES", 1_000)
    monkeypatch.setattr(fetch, "MAX_OBJECT_BYTES", 100_000)
    monkeypatch.setattr(bodies, "PART_BYTES", 10_000)
    bucket = filled(s3, "large", {"huge.jsonl": lines(*range(1_000)), "parts.jsonl": lines(*range(400)), "small.json": record(5_000)})
    fetched: list[str] = []
    original = S3Source.fetch
    monkeypatch.setattr(S3Source, "fetch", lambda self, listed, to: fetched.append(listed.key) or original(self, listed, to))
    result = ingest_logs(Home(tmp_path / "home"), f"s3://{bucket}", now_s=NOW_S)
    assert (result.ingested, result.quarantined) == (401, 1)
    assert fetched == ["parts.jsonl"]


def test_more_objects_than_one_page_holds_are_all_listed(s3: Any) -> None:
    bucket = filled(s3, "many", {f"a/{number:04d}": b"x" for number in range(25)})
    source = S3Source(bucket, "a")
    paginate = source._client.get_paginator("list_objects_v2").paginate
    pages = list(paginate(Bucket=bucket, Prefix="a/", PaginationConfig={"PageSize": 10}))
    assert [page["KeyCount"] for page in pages] == [10, 10, 5]
    assert [each.key for each in source.list_objects()] == [f"a/{number:04d}" for number in range(25)]


def test_feedback_is_read_from_a_bucket(s3: Any, tmp_path: Path) -> None:
    score = {"request_id": "r1", "name": "quality", "value": 0.5, "source": "judge", "scored_at": NOW_S - 100}
    bucket = filled(s3, "feedback", {"scores.jsonl": json.dumps(score).encode()})
    assert ingest_feedback(Home(tmp_path / "home"), f"s3://{bucket}", now_s=NOW_S).ingested == 1


def test_a_bucket_that_is_not_there_and_a_prefix_that_is_empty_cannot_be_used(s3: Any, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(UnusableInputError, match="no bucket nowhere-to-be-found"):
        ingest_logs(home, "s3://nowhere-to-be-found/logs", now_s=NOW_S)
    bucket = filled(s3, "empty", {"elsewhere/a.jsonl": lines(1)})
    with pytest.raises(UnusableInputError, match="no log objects"):
        ingest_logs(home, f"s3://{bucket}/logs", now_s=NOW_S)
    with pytest.raises(UnusableInputError, match="name a bucket"):
        ingest_logs(home, "s3:///logs", now_s=NOW_S)
    with pytest.raises(UnusableInputError, match="bucket name"):
        ingest_logs(home, "s3://no_such..bucket!/logs", now_s=NOW_S)
    assert home.sources() == ()


def test_an_object_that_changes_between_listing_and_reading_is_read_as_it_is_now(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = filled(s3, "changing", {"a.jsonl": lines(1, 2), "b.jsonl": lines(3)})
    read = S3Source.read
    overwritten: list[str] = []

    def overwrite_first(self: S3Source, listed: StoredObject) -> bytes:
        if listed.key == "a.jsonl" and not overwritten:
            overwritten.append(listed.etag)
            s3.put_object(Bucket=bucket, Key="a.jsonl", Body=lines(1, 2, 4))
        return read(self, listed)

    monkeypatch.setattr(S3Source, "read", overwrite_first)
    result = ingest_logs(Home(tmp_path / "home"), f"s3://{bucket}", now_s=NOW_S)
    assert (result.ingested, result.duplicates, result.objects_changing) == (4, 0, 0)
    ledger = Lake(Home(tmp_path / "home")).side_table("ledger").to_pylist()
    assert overwritten[0] not in {row["etag"] for row in ledger}


def test_an_object_that_goes_away_is_left_out(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = filled(s3, "going", {"a.jsonl": lines(1, 2), "b.jsonl": lines(3)})
    read = S3Source.read

    def delete_first(self: S3Source, listed: StoredObject) -> bytes:
        if listed.key == "a.jsonl":
            s3.delete_object(Bucket=bucket, Key="a.jsonl")
        return read(self, listed)

    monkeypatch.setattr(S3Source, "read", delete_first)
    assert ingest_logs(Home(tmp_path / "home"), f"s3://{bucket}", now_s=NOW_S).ingested == 1


def test_a_user_without_the_right_is_told_which_right_is_missing(
    swift_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, swift_endpoint, *s3_server.OWNER)
    bucket = filled(boto3.session.Session().client("s3"), "private", {"a.jsonl": lines(1)})
    point_at(monkeypatch, swift_endpoint, *s3_server.STRANGER)
    with pytest.raises(UnusableInputError, match="s3:ListBucket on bucket private"):
        ingest_logs(Home(tmp_path / "home"), f"s3://{bucket}", now_s=NOW_S)


def test_wrong_credentials_are_named_without_being_shown(swift_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, swift_endpoint, s3_server.OWNER[0], "wrong-secret-1234")
    with pytest.raises(UnusableInputError, match="credentials were refused") as caught:
        ingest_logs(Home(tmp_path / "home"), "s3://private", now_s=NOW_S)
    assert "wrong-secret-1234" not in str(caught.value)


def test_no_credentials_at_all_is_a_clear_end(moto_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, moto_endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(UnusableInputError, match="no usable credentials"):
        ingest_logs(Home(tmp_path / "home"), "s3://bucket/logs", now_s=NOW_S)


def test_an_endpoint_where_nobody_listens_is_a_service_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailableError, match="does not answer") as caught:
        ingest_logs(Home(tmp_path / "home"), "s3://bucket/logs", now_s=NOW_S)
    assert SECRET not in str(caught.value)


Answer = tuple[int, dict[str, str], bytes]


class Misbehaving(ThreadingHTTPServer):
    """One bucket with one object, served as `answer` likes: given how often the object was asked for before."""

    def __init__(self, answer: Callable[[int], Answer | int], listing: Answer | None = None) -> None:
        self.answer = answer
        self.listing = listing
        self.asked: Counter[str] = Counter()
        super().__init__(("127.0.0.1", 0), _Handler)


BODY = lines(1, 2, 3)
ETAG = '"0123456789abcdef"'
LISTING = (
    '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><KeyCount>1</KeyCount>'
    f"<IsTruncated>false</IsTruncated><Contents><Key>a.jsonl</Key><ETag>{ETAG}</ETag><Size>{len(BODY)}</Size></Contents></ListBucketResult>"
)


def refusal(status: int, code: str) -> Answer:
    return status, {}, f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{SECRET}</Message></Error>'.encode()


class _Handler(BaseHTTPRequestHandler):
    server: Misbehaving

    def do_GET(self) -> None:
        if "list-type" in parse_qs(urlsplit(self.path).query):
            self._send(*(self.server.listing or (200, {}, LISTING.encode())))
            return
        answer = self.server.answer(self.server.asked["get"])
        self.server.asked["get"] += 1
        if isinstance(answer, int):
            # Announces the whole body and breaks off after so many bytes.
            self._send(200, {"ETag": ETAG}, BODY, cut=answer)
        else:
            self._send(*answer)

    def do_HEAD(self) -> None:
        self._send(200, {"ETag": ETAG, "Content-Length": str(len(BODY))}, b"")

    def _send(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Misbehaving]]:
    servers: list[Misbehaving] = []

    def start(answer: Callable[[int], Answer | int], listing: Answer | None = None) -> Misbehaving:
        server = Misbehaving(answer, listing)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_body_that_breaks_off_is_asked_for_again_until_it_is_whole(misbehaving: Callable[..., Misbehaving], tmp_path: Path) -> None:
    server = misbehaving(lambda asked: len(BODY) // 2 if asked < 2 else (200, {"ETag": ETAG}, BODY))
    result = ingest_logs(Home(tmp_path / "home"), "s3://b", now_s=NOW_S)
    assert (result.ingested, result.quarantined) == (3, 0)
    assert server.asked["get"] == 3


def test_a_body_that_always_breaks_off_is_never_half_read(misbehaving: Callable[..., Misbehaving], tmp_path: Path) -> None:
    misbehaving(lambda _: len(BODY) // 2)
    home = Home(tmp_path / "home")
    with pytest.raises(ServiceUnavailableError, match="broke off"):
        ingest_logs(home, "s3://b", now_s=NOW_S)
    assert Lake(home).totals().records == 0


def test_a_body_of_another_version_is_never_taken_for_the_listed_one(misbehaving: Callable[..., Misbehaving], tmp_path: Path) -> None:
    # A store that ignores If-Match and gives what it has now.
    misbehaving(lambda _: (200, {"ETag": '"another"'}, BODY))
    result = ingest_logs(Home(tmp_path / "home"), "s3://b", now_s=NOW_S)
    assert (result.records, result.objects_changing) == (0, 1)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (refusal(503, "SlowDown"), ServiceUnavailableError, "overloaded or down"),
        (refusal(500, "InternalError"), ServiceUnavailableError, "overloaded or down"),
        (refusal(403, "AccessDenied"), UnusableInputError, "need s3:GetObject on bucket b"),
    ],
)
def test_a_store_that_refuses_to_the_end_ends_the_run_with_a_reason_and_without_secrets(
    answer: Answer, error: type[Exception], words: str, misbehaving: Callable[..., Misbehaving], tmp_path: Path
) -> None:
    misbehaving(lambda _: answer)
    with pytest.raises(error, match=words) as caught:
        ingest_logs(Home(tmp_path / "home"), "s3://b", now_s=NOW_S)
    assert SECRET not in str(caught.value)


def test_throttling_that_passes_is_waited_out(misbehaving: Callable[..., Misbehaving], tmp_path: Path) -> None:
    misbehaving(lambda asked: refusal(503, "SlowDown") if asked == 0 else (200, {"ETag": ETAG}, BODY))
    assert ingest_logs(Home(tmp_path / "home"), "s3://b", now_s=NOW_S).ingested == 3


def test_a_right_to_read_without_the_right_to_list_says_so(misbehaving: Callable[..., Misbehaving], tmp_path: Path) -> None:
    misbehaving(lambda _: (200, {"ETag": ETAG}, BODY), listing=refusal(403, "AccessDenied"))
    with pytest.raises(UnusableInputError, match="need s3:ListBucket on bucket b"):
        ingest_logs(Home(tmp_path / "home"), "s3://b", now_s=NOW_S)
