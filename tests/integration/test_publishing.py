"""Publishing rule sets to a directory and to servers that speak S3: killed between steps, many at once, never half-written."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3_server
from moto.server import ThreadedMotoServer

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.record import Latest, RuleSetRecord
from routing_pipeline.rules.record_files import RecordFiles, open_record_files
from routing_pipeline.storage import bucket
from tests.recommendation.test_realized_outcomes import promise

FIRST, SECOND = "2026-11-01T00:00:00Z-aaaa", "2026-11-08T00:00:00Z-bbbb"
SMALL, LARGE = 0.01, 0.5


def proposed(rule_set_id: str) -> RuleSet:
    return promise(rule_set_id).model_copy(update={"status": "proposed"})


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str, key: str, secret: str) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["directory", "swift"])
def uri(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A fresh place of each kind; moto heeds If-Match, Swift does not know it."""
    if request.param == "directory":
        return str(tmp_path / "rule_sets")
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    point_at(monkeypatch, endpoint, *(s3_server.OWNER if request.param == "swift" else ("key", "secret-key-8086")))
    bucket = "rules-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    boto3.session.Session().client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/prod/rule-sets"


def record_at(uri: str) -> RuleSetRecord:
    return RuleSetRecord(open_record_files(uri))


def is_whole(uri: str) -> Latest | None:
    """What a gateway sees: latest.json and the rules it names, complete and belonging together."""
    place = open_record_files(uri)
    stored = place.read("latest.json")
    if stored is None:
        return None
    latest = Latest.model_validate_json(stored.content)
    if latest.rules is not None:
        rules = place.read(latest.rules)
        assert rules is not None
        assert hashlib.sha256(rules.content).hexdigest() == latest.sha256
        assert json.loads(rules.content)["rule_set_id"] == latest.rule_set_id
    return latest


def at_once(jobs: Sequence[Callable[[], Any]]) -> list[int]:
    """Run each in a process of its own; exit codes, negative for a signal."""
    children = []
    for job in jobs:
        child = os.fork()
        if not child:
            try:
                job()
                os._exit(0)
            except UnusableInputError:
                os._exit(2)
            except BaseException:  # noqa: BLE001 (a child of a fork must never go on as its parent)
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.parametrize("uri", ["directory", "moto", "swift"], indirect=True)
def test_create_and_replace_keep_their_word(uri: str) -> None:
    place = open_record_files(uri)
    assert place.read("a/one") is None
    assert place.create("a/one", b"1")
    assert not place.create("a/one", b"2")
    assert place.names("a") == ["one"]
    seen = place.read("a/one")
    assert seen is not None
    assert seen.content == b"1"
    assert place.replace("a/one", b"3", seen)
    assert not place.replace("a/one", b"4", seen), "it is not what was seen any more"
    assert not place.replace("a/one", b"5", None)
    assert place.replace("latest", b"6", None)
    assert [each.content for each in (place.read("a/one"), place.read("latest")) if each] == [b"3", b"6"]


def test_a_life_from_proposal_to_roll_back(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "SETTLES_S", 0.0)  # only one at a time writes here
    record = record_at(uri)
    record.propose(proposed(FIRST), SMALL, SMALL)
    record.propose(proposed(SECOND), LARGE, LARGE)
    assert is_whole(uri) is None
    record.publish(FIRST, "Ada")
    with pytest.raises(UnusableInputError, match="waits for approval"):
        record.publish(SECOND, "Ada")
    record.approve(SECOND, "Grace", "reviewed in the weekly meeting")
    record.publish(SECOND, "Ada")
    latest = is_whole(uri)
    assert latest is not None
    assert latest.rule_set_id == SECOND
    assert record_at(uri).roll_back("Ada", "quality fell").live == FIRST
    assert is_whole(uri) is not None
    assert [each.move for each in record.status(SECOND).history] == ["approve", "publish", "roll_back"]


class _Dying:
    """A place at which the process is killed before, or after, the write of a file."""

    def __init__(self, place: RecordFiles, name: str, when: str) -> None:
        self.place, self.name, self.when = place, name, when
        self.uri, self.read, self.names = place.uri, place.read, place.names

    def _dying(self, name: str, write: Callable[[], bool]) -> bool:
        if name.startswith(self.name) and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = write()
        if name.startswith(self.name) and self.when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    def create(self, name: str, content: bytes) -> bool:
        return self._dying(name, lambda: self.place.create(name, content))

    def replace(self, name: str, content: bytes, seen: Any) -> bool:
        return self._dying(name, lambda: self.place.replace(name, content, seen))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["published/", "record/", "latest.json"])
def test_a_publisher_killed_at_any_step_leaves_the_old_or_the_new_and_the_next_one_finishes(
    uri: str, step: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "SETTLES_S", 0.0)  # only one at a time writes here
    record = record_at(uri)
    record.propose(proposed(FIRST), SMALL, SMALL)
    record.publish(FIRST, "Ada")
    record.propose(proposed(SECOND), SMALL, SMALL)
    codes = at_once([lambda: RuleSetRecord(_Dying(open_record_files(uri), step, when)).publish(SECOND, "Grace")])
    assert codes == [-signal.SIGKILL]
    between = is_whole(uri)
    assert between is not None
    assert between.rule_set_id in {FIRST, SECOND}
    status = record_at(uri).publish(SECOND, "Grace")
    assert (status.state, status.is_live) == ("published", True)
    after = is_whole(uri)
    assert after is not None
    assert after.rule_set_id == SECOND
    assert [each.move for each in status.history] == ["publish"], "published once, however often it was tried"


def test_publishers_at_once_end_one_after_the_other(uri: str) -> None:
    ids = [f"2026-11-0{place}T00:00:00Z-cccc" for place in range(1, 4)]
    record = record_at(uri)
    for rule_set_id in ids:
        record.propose(proposed(rule_set_id), SMALL, SMALL)
    codes = at_once([lambda each=each: record_at(uri).publish(each, f"by {each}") for each in (*ids, ids[0])])
    assert codes == [0] * 4
    decisions = [each for rule_set_id in ids for each in record.status(rule_set_id).history]
    assert sorted(each.number for each in decisions) == list(range(1, len(decisions) + 1))
    assert {each.rule_set_id for each in decisions} == set(ids)
    latest = is_whole(uri)
    assert latest is not None
    newest = max(decisions, key=lambda each: each.number)
    assert (latest.number, latest.rule_set_id) == (newest.number, newest.rule_set_id)


def test_of_two_who_approve_at_once_one_does(uri: str) -> None:
    record = record_at(uri)
    record.propose(proposed(FIRST), LARGE, LARGE)
    codes = at_once([lambda who=who: record_at(uri).approve(FIRST, who) for who in ("Ada", "Grace", "Edsger")])
    assert sorted(codes) == [0, 2, 2]
    assert len(record.status(FIRST).history) == 1


def test_latest_never_goes_back_to_what_a_slow_publisher_had_in_hand(uri: str) -> None:
    record = record_at(uri)
    for rule_set_id in (FIRST, SECOND):
        record.propose(proposed(rule_set_id), SMALL, SMALL)
    slow = RuleSetRecord(open_record_files(uri))
    replace = slow.place.replace
    overtaken: list[bool] = []

    def late(name: str, content: bytes, seen: Any) -> bool:
        if not overtaken:
            overtaken.append(True)
            record_at(uri).publish(SECOND, "Grace")
        return replace(name, content, seen)

    slow.place.replace = late  # type: ignore[method-assign]
    slow.publish(FIRST, "Ada")
    latest = is_whole(uri)
    assert latest is not None
    assert latest.rule_set_id == SECOND


def test_an_endpoint_that_does_not_answer_is_unavailable_and_says_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, "http://127.0.0.1:9", "someone", "hush-hush")
    with pytest.raises(ServiceUnavailableError) as down:
        record_at("s3://bucket/rules").approve(FIRST, "Ada")
    assert "hush-hush" not in str(down.value)


@pytest.mark.parametrize("uri", ["s3://bucket", "ftp://host/x", "s3://key:secret@bucket/x"])
def test_an_address_of_no_use_is_refused(uri: str) -> None:
    with pytest.raises(UnusableInputError) as refused:
        open_record_files(uri)
    assert "secret@" not in str(refused.value)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableInputError, match="can be written to"):
        record_at(str(tmp_path / "file")).propose(proposed(FIRST), SMALL, SMALL)


def test_no_stray_files_stay_behind(tmp_path: Path) -> None:
    record = record_at(str(tmp_path))
    record.propose(proposed(FIRST), SMALL, SMALL)
    record.publish(FIRST, "Ada")
    name = FIRST.replace(":", "")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {f"proposed/{name}.json", f"published/{name}.json", "record/00000001.json", "latest.json", ".lock"}


def test_without_the_right_to_write_it_says_which_right_is_missing(swift_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(monkeypatch, swift_endpoint, *s3_server.OWNER)
    boto3.session.Session().client("s3").create_bucket(Bucket="guarded")
    point_at(monkeypatch, swift_endpoint, *s3_server.STRANGER)
    with pytest.raises(UnusableInputError, match="s3:"):
        open_record_files("s3://guarded/rules").create("a/b", b"x")
