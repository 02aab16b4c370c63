"""Records are found and counted one by one, whatever stands between them, beside them or around them."""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from routing_pipeline.ingest import quarantine
from routing_pipeline.ingest.formats.mapping import read_mapping
from routing_pipeline.ingest.json_values import pieces, pieces_of_lines
from routing_pipeline.ingest.shapes import Found, LeftOut, Lost, Shapes
from routing_pipeline.ingest.staging import detect, stager, unpack
from routing_pipeline.lake.table import Lake
from routing_pipeline.storage.home import Home
from tests.ingest.formats import test_langfuse as langfuse, test_otlp as otlp
from tests.ingest.reading import Read, json_lines, read_logs

START_S = 1_795_400_000
PACKED = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}
TIME = "2026-11-23T02:13:20.123456789Z"


def call(number: int, **changes: Any) -> dict[str, Any]:
    """A record of a gateway; nothing is known of one with a changed name."""
    return {
        "id": f"chatcmpl-{number}",
        "litellm_call_id": f"call-{number}",
        "startTime": START_S + number,
        "endTime": START_S + number + 2,
        "status": "success",
        "model": "openai/gpt-4o",
        "messages": [{"role": "user", "content": 'a }{ and a "}{" \\ and {"id": 1}'}],
        "response_cost": 0.25,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "metadata": {"user_api_key_request_route": "/v1/chat/completions"},
    } | changes


def text(number: int, **changes: Any) -> str:
    return json.dumps(call(number, **changes))


def calls(count: int) -> list[str]:
    return [text(number) for number in range(count)]


def cut(number: int) -> str:
    return text(number)[:-60]


Reading = Callable[..., Read]


@pytest.fixture
def read(tmp_path: Path) -> Reading:
    def of(content: str | bytes | dict[str, str | bytes], log_format: str = "auto", name: str = "a") -> Read:
        """What became of one object, or of several by their names, and of those read before."""
        (tmp_path / "logs").mkdir(exist_ok=True)
        for called, each in (content if isinstance(content, dict) else {name: content}).items():
            (tmp_path / "logs" / called).write_bytes(each.encode() if isinstance(each, str) else each)
        return read_logs(tmp_path / "logs", tmp_path / "home", log_format)

    return of


@pytest.fixture
def places(tmp_path: Path) -> Callable[[], list[tuple[int | None, int | None]]]:
    """Line and record of everything that was refused."""

    def of() -> list[tuple[int | None, int | None]]:
        rows = Lake(Home(tmp_path / "home")).side_table("quarantine").to_pylist()
        return sorted(((row["line"], row["record"]) for row in rows), key=str)

    return of


def models(found: Read) -> set[str]:
    return {row["attempt_id"].split("/")[0] for row in found.rows}


def names(*numbers: int) -> set[str]:
    return {f"call-{number}" for number in numbers}


# One after another


def test_records_are_read_whatever_stands_between_them(read: Reading) -> None:
    content, number = dict[str, bytes](), 0
    for packed, pack in PACKED.items():
        for place, between in enumerate(["", " ", "\t", "\r\n", "\n\n", ",", ",\n", "\x1e", "\ufeff"]):
            for count in (2, 20):
                joined = between.join(text(number + each) for each in range(count))
                content[f"{packed}-{place}-{count}"] = pack(joined.encode())
                number += count
    found = read(content)
    assert (found.result.records, models(found)) == (number, names(*range(number)))


def test_a_line_of_many_records_among_lines_of_one_is_read_record_by_record(read: Reading) -> None:
    content, expected = dict[str, bytes](), set[str]()
    for first, place, pack in ((0, 0, bytes), (100, 3, gzip.compress), (200, 9, zstandard.compress)):
        lines = [text(first + number) for number in range(10)]
        lines[place] = "".join(text(first + 50 + number) for number in range(20))
        content[str(first)] = pack("\n".join(lines).encode())
        expected |= names(*(first + number for number in (*range(10), *range(50, 70)) if number != place))
    found = read(content)
    assert (found.result.records, models(found), found.refused) == (3 * 29, expected, [])


def test_a_record_that_is_cut_off_is_the_only_one_that_is_lost(read: Reading, places: Any) -> None:
    content = dict[str, bytes]()
    for place, (packed, pack) in enumerate(PACKED.items()):
        sound, lost = (lambda number, n=10 * place, **changes: text(n + number, **changes)), (lambda number, n=10 * place: cut(n + number))
        lines = [sound(0), sound(1) + sound(2) + lost(3), sound(4) + lost(5) + sound(6), sound(7, response_cost=-1) + sound(8), lost(9)]
        content[packed] = pack("\n".join(lines).encode())
    found = read(content)
    assert (found.result.records, models(found)) == (
        30,
        names(*(10 * place + number for place in range(3) for number in (0, 1, 2, 4, 6, 8))),
    )
    assert places() == sorted([(2, 3), (3, 2), (4, 1), (5, None)] * 3, key=str)
    assert Counter(reason for _, reason in found.refused) == {"not valid JSON": 9, "response_cost is negative": 3}


BROKEN = ['{"id": tru}', '{"id": "a" "b"}', '{"id": "\\x"}', '{"a": [1, 2}', "{]", '{"id": "}{" oops}']


def test_what_is_broken_between_two_records_of_a_line_is_refused_once(read: Reading, places: Any) -> None:
    found = read({str(place): text(2 * place) + broken + text(2 * place + 1) for place, broken in enumerate(BROKEN)})
    assert (models(found), places()) == (names(*range(2 * len(BROKEN))), [(1, 2)] * len(BROKEN))


def test_bytes_that_are_no_text_spoil_their_own_record_alone(read: Reading, places: Any) -> None:
    bad = text(1).encode().replace(b"gpt-4o", b"gpt-\xff\xfe")
    found = read(text(0).encode() + b"\n" + text(2).encode() + bad + text(3).encode() + b"\n" + text(4).encode() + b"\n")
    assert (models(found), places()) == (names(0, 2, 3, 4), [(2, 2)])


def test_a_record_between_a_sound_and_a_broken_end_of_a_document_is_read(read: Reading) -> None:
    found = read(json.dumps([call(0), call(1), call(2)], indent=2)[:-80])
    assert (found.result.records, models(found)) == (3, names(0, 1))
    assert "the document breaks off" in found.refused[0][1]


def test_what_is_empty_holds_no_records(read: Reading) -> None:
    empty = ["", "\n \n", "\n\n", "[]", "[[], []]", '{"data": []}', '{"data": [], "meta": {"total": 0}}', '{"resourceSpans": []}']
    found = read({str(place): content for place, content in enumerate(empty)})
    assert (found.result.records, found.result.left_out) == (0, {})


JOINED = st.sampled_from(["", " ", "\n", "\r\n", "\n\n", ",", ",\n  "])
WORDS = st.text(alphabet='ab}{][",:\\\n\t é😀', max_size=12)


def _laid_out(parts: list[str], between: list[str], is_array: bool, indent: int | None) -> str:
    shown = [json.dumps(json.loads(part), indent=indent, ensure_ascii=False) for part in parts]
    joined = "".join(part + joiner for part, joiner in zip(shown, between, strict=True))
    return f"[{','.join(shown)}]" if is_array else joined


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(WORDS, min_size=1, max_size=6),
    between=st.lists(JOINED, min_size=6, max_size=6),
    is_array=st.booleans(),
    indent=st.sampled_from([None, 1, 2]),
    chunk=st.integers(1, 400),
)
def test_any_layout_of_any_records_gives_the_same_records(
    words: list[str], between: list[str], is_array: bool, indent: int | None, chunk: int
) -> None:
    records = [call(number, messages=word, **{word[:3]: word}) for number, word in enumerate(words)]
    content = _laid_out([json.dumps(each) for each in records], between[: len(records)], is_array, indent).encode()
    items = list(Shapes(None, 1 << 20).read(_Dripping(content, chunk)))
    assert [json.loads(item.text) for item in items if isinstance(item, Found)] == records
    assert len(items) == len(records)


class _Dripping:
    """Gives few bytes at a time, so that reading on happens everywhere."""

    def __init__(self, content: bytes, size: int) -> None:
        self._file, self._size = io.BytesIO(content), size

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(min(size, self._size) if size >= 0 else self._size)


@settings(max_examples=150, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["sound", "sound", "cut", "literal", "unknown", "negative"]), min_size=1, max_size=8),
    at=st.lists(st.floats(0.1, 0.9), min_size=8, max_size=8),
    between=st.lists(st.sampled_from(["", " ", "\n"]), min_size=8, max_size=8),
    by_line=st.booleans(),
)
def test_every_record_is_found_or_refused_and_no_broken_one_takes_a_sound_one_with_it(
    kinds: list[str], at: list[float], between: list[str], by_line: bool
) -> None:
    made, sound = "", set()
    for number, kind in enumerate(kinds):
        whole = text(number)
        broken = {"cut": whole[: int(len(whole) * at[number])], "literal": whole.replace("0.25", "0.2.5")}
        unknown = json.dumps({"identifier": number, "text": "}{"})
        made += {"sound": whole, "negative": text(number, response_cost=-1), "unknown": unknown, **broken}[kind] + between[number]
        sound |= {f"call-{number}"} if kind in {"sound", "negative"} else set()
    shapes = Shapes(None, 1 << 20)
    items = list(shapes.read_lines(io.BytesIO(made.encode())) if by_line else shapes.read(io.BytesIO(made.encode())))
    assert {json.loads(item.text)["litellm_call_id"] for item in items if isinstance(item, Found)} == sound
    lost = [item for item in items if isinstance(item, Lost)]
    # Of two that are broken side by side nobody can tell where the second begins.
    assert len(lost) <= sum(kind in {"cut", "literal", "unknown"} for kind in kinds) + sum(kind == "cut" for kind in kinds)
    assert bool(lost) == any(kind in {"cut", "literal", "unknown"} for kind in kinds)


# Pages


def nested(path: list[str], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


PATHS = [*(["data"], ["result"], ["results"], ["logs"], ["items"], ["records"], ["events"]), ["data", "items"], ["response", "result", "logs"], ["hits", "hits"]]  # fmt: skip


def test_records_below_a_name_are_read_wherever_the_document_puts_them(read: Reading) -> None:
    content, sound = dict[str, str](), list[int]()
    for place, (path, indent) in enumerate(itertools.product(PATHS, (None, 2))):
        first = 3 * place
        below = nested(path, [call(first), call(first + 1, response_cost=-1), call(first + 2)])
        content[f"{place:02}"] = json.dumps(below | {"meta": {"page": 1, "total": 3}, "next_cursor": None}, indent=indent)
        sound += [first, first + 2]
    found = read(content)
    assert (found.result.records, models(found)) == (3 * len(content), names(*sound))
    assert found.refused == [(1, "response_cost is negative")] * len(content)


def test_pages_follow_each_other_line_by_line_and_every_record_has_its_place(read: Reading, places: Any) -> None:
    lines = [json.dumps({"data": [call(3 * page), call(3 * page + 1), {"other": page}], "meta": {"page": page}}) for page in range(4)]
    lines += [json.dumps({"data": [], "meta": {"page": 5}}), text(20)]
    found = read("\n".join(lines))
    assert (found.result.records, found.result.ingested) == (13, 9)
    assert places() == [(line, 3) for line in (1, 2, 3, 4)]


def test_the_records_of_a_page_that_breaks_off_are_read_up_to_there(read: Reading) -> None:
    whole = json.dumps({"data": [call(number) for number in range(5)], "meta": {}})
    for place, content in enumerate((whole[:-100], whole[:-10])):
        found = read(content, name=str(place))
        assert found.result.quarantined == 1
    assert len(found.rows) == 5


def test_a_page_or_a_line_longer_than_any_document_may_be_is_read_record_by_record(read: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "LONGEST_DOCUMENT", 20_000)
    monkeypatch.setattr(stager, "LONGEST_DOCUMENT", 20_000)
    monkeypatch.setattr(unpack, "HEAD_BYTES", 3_000)
    many = range(300)
    content = {
        "page": json.dumps({"data": [call(number) for number in many], "meta": {"total": 300}}),
        "pretty": json.dumps({"meta": {"total": 300}, "data": [call(1_000 + number) for number in many]}, indent=1),
        "array": json.dumps([call(2_000 + number) for number in many]),
        "line": "".join(text(3_000 + number) for number in many),
        "spans": json.dumps({"resourceSpans": [otlp.document(otlp.span(number))["resourceSpans"][0] for number in many]}),
    }
    for name, each in content.items():
        found = read(each, name=name)
        assert (found.result.records, found.result.ingested) == (300, 300), name


def test_a_record_beyond_all_limits_is_refused_once_and_its_neighbours_are_read(read: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "LONGEST_DOCUMENT", 1 << 20)
    found = read(text(0) + text(1, messages="}{ x" * (1 << 19)) + text(2) + "\n" + text(3))
    assert (found.result.records, models(found), found.refused) == (4, names(0, 2, 3), [(1, "line longer than 1 MiB")])


# What log shippers put around a record

MESSAGE = text(0)


def any_value(given: Any) -> dict[str, Any]:
    """A value as OpenTelemetry writes it."""
    if isinstance(given, dict):
        return {"kvlistValue": {"values": [{"key": name, "value": any_value(each)} for name, each in given.items()]}}
    if isinstance(given, list):
        return {"arrayValue": {"values": [any_value(each) for each in given]}}
    if given is None:
        return {}
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return {kinds[type(given)]: str(given) if type(given) is int else given}


def collected(bodies: list[dict[str, Any]]) -> str:
    """Log records of a collector."""
    return json.dumps(
        {"resourceLogs": [{"resource": {}, "scopeLogs": [{"logRecords": [{"timeUnixNano": "1", "body": each} for each in bodies]}]}]}
    )


def base64_of(said: str) -> str:
    return base64.b64encode(said.encode()).decode()


def wrapped(two: list[str]) -> dict[str, str]:
    """Two records in what each shipper puts around them."""
    return {
        "CloudWatch subscription": json.dumps(
            {
                "messageType": "DATA_two[0]",
                "owner": "123456789012",
                "logGroup": "/ecs/gateway",
                "logStream": "s",
                "subscriptionFilters": ["all"],
                "logEvents": [{"id": "1", "timestamp": 1, "message": two[0]}, {"id": "2", "timestamp": 2, "message": two[1] + "\n"}],
            }
        ),
        "CloudWatch handed to a function": json.dumps(
            {
                "awslogs": {
                    "data": base64.b64encode(
                        gzip.compress(json.dumps({"logEvents": [{"message": two[0]}, {"message": two[1]}]}).encode())
                    ).decode()
                }
            }
        ),
        "Kinesis handed to a function": json.dumps(
            {"Records": [{"kinesis": {"partitionKey": "p", "data": base64_of(each)}, "eventSource": "aws:kinesis"} for each in two]}
        ),
        "Firehose handed to a function": json.dumps(
            {"records": [{"recordId": "4", "approximateArrivalTimestamp": 1, "data": base64_of(f"{each}\n")} for each in two]}
        ),
        "Firehose with several records each, compressed": json.dumps(
            {"records": [{"recordId": "4", "data": base64.b64encode(gzip.compress("".join(two).encode())).decode()}]}
        ),
        "Pub/Sub pushed": "".join(
            json.dumps({"message": {"data": base64_of(each), "messageId": "1", "attributes": {"a": "b"}}, "subscription": "projects/p"})
            + "\n"
            for each in two
        ),
        "Pub/Sub in the alphabet of addresses, without padding": "".join(
            json.dumps({"message": {"data": base64.urlsafe_b64encode(each.encode()).decode().rstrip("="), "messageId": "1"}})
            for each in two
        ),
        "Kafka handed to a function": json.dumps(
            {"records": {"calls-0": [{"offset": 1, "value": base64_of(f" [{','.join(two)}]".strip())}]}}
        ),
        "CloudEvents": "".join(json.dumps({"specversion": "1.0", "type": "t", "data_base64": base64_of(each)}) + "\n" for each in two),
        "diagnostic settings of Azure": json.dumps({"records": [{"time": TIME, "properties": each} for each in two]}),
        "text under a name that nobody knows": "".join(json.dumps({"n": 1, "blob": each}) + "\n" for each in two),
        "the OpenTelemetry collector, as text": collected([{"stringValue": each} for each in two]),
        "the OpenTelemetry collector, as fields": collected([any_value(json.loads(each)) for each in two]),
        "a sequence of RFC 7464": "".join(f"\x1e{each}\n" for each in two),
        "a table with a column of JSON": "n;request\n" + "".join(f'1;"{each.replace(chr(34), chr(34) * 2)}"\n' for each in two),
        "CloudWatch export": f"{TIME} {two[0]}\n{TIME} {two[1]}\n",
        "get-log-events": json.dumps(
            {"events": [{"timestamp": 1, "message": each, "ingestionTime": 2} for each in two], "nextForwardToken": "f"}
        ),
        "docker json-file": "".join(json.dumps({"log": f"{each}\n", "stream": "stdout", "time": TIME}) + "\n" for each in two),
        "docker without line ends": "".join(json.dumps({"log": each, "stream": "stdout", "time": TIME}) + "\n" for each in two),
        "docker compose logs": "".join(f"gateway-1  | {each}\n" for each in two),
        "Kubernetes CRI": "".join(f"{TIME} stdout F {each}\n" for each in two),
        "FireLens, concatenated": "".join(
            json.dumps({"source": "stdout", "log": each, "container_id": "c", "ecs_cluster": "e"}) for each in two
        ),
        "Fluent Bit": "".join(json.dumps({"date": 1.5, "log": json.loads(each), "kubernetes": {"pod_name": "p"}}) + "\n" for each in two),
        "Fluent Bit, merged beside the text": "".join(
            json.dumps({"log": each, "log_processed": json.loads(each), "kubernetes": {"labels": {"a": "b"}}}) + "\n" for each in two
        ),
        "Vector": "".join(json.dumps({"message": each, "timestamp": TIME, "host": "h", "source_type": "file"}) + "\n" for each in two),
        "Logstash": "".join(json.dumps({"@timestamp": TIME, "@version": "1", "message": json.loads(each)}) + "\n" for each in two),
        "Filebeat": "".join(
            json.dumps({"@timestamp": TIME, "log": {"offset": 5, "file": {"path": "p"}}, "message": each, "agent": {"type": "filebeat"}})
            + "\n"
            for each in two
        ),
        "Elasticsearch": json.dumps(
            {"took": 1, "hits": {"total": {"value": 2}, "hits": [{"_id": "a", "_source": json.loads(each)} for each in two]}}
        ),
        "Datadog interface": json.dumps(
            {
                "data": [
                    {"id": "x", "type": "log", "attributes": {"service": "s", "message": each, "attributes": json.loads(each)}}
                    for each in two
                ]
            }
        ),
        "Datadog archive": "".join(
            json.dumps({"_id": "a", "date": TIME, "service": "s", "message": each, "status": "info"}) + "\n" for each in two
        ),
        "Loki": json.dumps(
            {
                "status": "success",
                "data": {
                    "resultType": "streams",
                    "result": [{"stream": {"app": "g"}, "values": [["1795400000000000000", each] for each in two]}],
                },
            }
        ),
        "logcli": "".join(json.dumps({"labels": {"app": "g"}, "line": each, "timestamp": TIME}) + "\n" for each in two),
        "Google Cloud jsonPayload": "".join(
            json.dumps({"insertId": "i", "jsonPayload": json.loads(each), "resource": {"type": "k8s_container"}, "timestamp": TIME}) + "\n"
            for each in two
        ),
        "Google Cloud textPayload": json.dumps([{"insertId": "i", "textPayload": each, "timestamp": TIME} for each in two], indent=2),
        "Splunk": "".join(json.dumps({"time": 1, "host": "h", "event": json.loads(each)}) for each in two),
        "syslog": "".join(f"<134>1 {TIME} host gateway 12 - - {each}\n" for each in two),
        "table of CloudWatch Insights": '"@timestamp","@message"\n'
        + "".join(f'{TIME},"{each.replace(chr(34), chr(34) * 2)}"\n' for each in two),
        "by identifier": json.dumps({json.loads(each)["litellm_call_id"]: json.loads(each) for each in two}),
        "a wrapper in a wrapper": json.dumps({"message": json.dumps({"log": two[0]})})
        + "\n"
        + json.dumps({"message": json.dumps({"data": [json.loads(two[1])]})}),
    }


SHIPPERS = list(wrapped(calls(2)))


def numbers_of(place: int) -> tuple[int, int]:
    """Of the two records that one shipper sends: no two send the same."""
    return 2 * place, 2 * place + 1


def written(folder: Path, pack: Callable[[bytes], bytes], **changes: Any) -> None:
    """One object per shipper, each with records of its own."""
    folder.mkdir()
    for place, shipper in enumerate(SHIPPERS):
        content = wrapped([text(number, **changes) for number in numbers_of(place)])[shipper]
        (folder / f"{place:03}").write_bytes(pack(content.encode()))


def by_shipper(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], Any]) -> dict[str, list[Any]]:
    """What rows say, by the shipper whose object they came from."""
    found: dict[str, list[Any]] = {shipper: [] for shipper in SHIPPERS}
    for row in rows:
        found[SHIPPERS[int(row["source_object"].partition(" in ")[0])]].append(value(row))
    return found


def test_records_are_taken_out_of_what_a_shipper_puts_around_them(tmp_path: Path) -> None:
    written(tmp_path / "logs", gzip.compress)
    found = read_logs(tmp_path / "logs", tmp_path / "home")
    assert found.refused == []
    expected = {shipper: sorted(names(*numbers_of(place))) for place, shipper in enumerate(SHIPPERS)}
    taken = by_shipper(found.rows, lambda row: row["attempt_id"].split("/")[0])
    assert {shipper: sorted(each) for shipper, each in taken.items()} == expected
    assert (found.result.records, found.result.left_out, found.result.formats) == (2 * len(SHIPPERS), {}, ("litellm",))


def test_a_wrapped_record_that_cannot_be_used_is_refused_by_itself(tmp_path: Path) -> None:
    written(tmp_path / "logs", bytes, response_cost=-0.2)
    found = read_logs(tmp_path / "logs", tmp_path / "home")
    refused = by_shipper(Lake(Home(tmp_path / "home")).side_table("quarantine").to_pylist(), lambda row: row["reason"])
    assert refused == dict.fromkeys(SHIPPERS, ["response_cost is negative"] * 2)
    assert (found.result.records, found.rows) == (2 * len(SHIPPERS), [])


def test_events_that_were_compressed_one_by_one_and_again_as_a_stream_are_unpacked(read: Reading) -> None:
    events = [{"messageType": "DATA_MESSAGE", "logEvents": [{"id": "e", "timestamp": 1, "message": text(number)}]} for number in range(3)]
    stream = b"".join(gzip.compress(json.dumps(each).encode()) for each in events)
    control = gzip.compress(json.dumps({"messageType": "CONTROL_MESSAGE", "logEvents": [{"message": "checking health"}]}).encode())
    found = read(gzip.compress(control + stream))
    assert (models(found), found.result.left_out) == (names(0, 1, 2), {"control messages of CloudWatch": 1})
    assert "compressed more than 3 times" in read(gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"{}")))), name="b").refused[0][1]


def test_a_word_that_looks_like_base64_of_an_object_stays_a_line_of_text(read: Reading) -> None:
    said = "".join(json.dumps({"log": f"{each}\n", "stream": "stdout", "time": TIME}) + "\n" for each in (MESSAGE, "exit", "eyAg", "Wait"))
    found = read(said)
    assert (models(found), found.result.left_out, found.refused) == (names(0), {"lines of text": 3}, [])


def test_an_unknown_record_in_base64_is_refused_by_its_own_names(read: Reading) -> None:
    found = read(json.dumps({"records": [{"recordId": "1", "data": base64_of('{"colour": "blue", "shade": 3}')}] * 2}))
    assert found.result.quarantined == 2


def test_lines_of_text_beside_wrapped_records_are_left_out_and_counted_and_halves_of_records_are_not(read: Reading) -> None:
    said = [
        "INFO:     started server process [1]",
        "ready",
        MESSAGE,
        '{"id": "cut',
        'el": "gpt-4o"}',
        text(1),
        json.dumps({"level": "info", "msg": "bye"}),
    ]
    docker = "".join(json.dumps({"log": f"{each}\n", "stream": "stdout", "time": TIME}) + "\n" for each in said)
    found = read(docker)
    assert (found.result.records, models(found)) == (4, names(0, 1))
    assert (found.result.quarantined, found.result.left_out) == (2, {"lines of text": 3})
    found = read("".join(f"{TIME} stdout F {each}\n" for each in said).replace("call-", "again-"), name="b")
    assert (found.result.records, found.result.left_out) == (4, {"lines of text": 3})


def test_an_unknown_record_beside_wrapped_ones_is_no_line_of_text(read: Reading) -> None:
    lines = [
        json.dumps({"message": MESSAGE}),
        json.dumps({"message": "hello", "model": "m", "tokens": 5}),
        json.dumps({"message": "hello"}),
    ]
    found = read("\n".join(lines))
    assert (found.result.ingested, found.result.quarantined, found.result.left_out) == (1, 1, {"lines of text": 1})


def test_what_nests_deeper_than_anybody_reads_stops_nothing(read: Reading) -> None:
    deep = "[" * 900 + "]" * 900
    metadata = '{"a": ' * 900 + "1" + "}" * 900
    lines = [
        f'{{"data": [{MESSAGE}, {deep}]}}',
        f'{{"x": {metadata}}}',
        f'{{"message": {text(1)[:-1]}, "metadata": {metadata}}}}}',
        text(2),
    ]
    found = read("\n".join(lines))
    assert models(found) >= names(0, 2)
    assert found.result.records == 5


def in_parts(message: str, size: int = 150) -> list[str]:
    return [message[start : start + size] for start in range(0, len(message), size)]


def test_messages_that_a_runtime_cut_into_parts_are_put_together(read: Reading) -> None:
    docker = [{"log": part, "stream": "stdout", "time": TIME} for part in in_parts(text(0) + "\n")]
    other = [{"log": part, "stream": "stderr", "time": TIME} for part in in_parts(text(1) + "\n")]
    mixed = [each for pair in zip(docker, other, strict=True) for each in pair]
    read(json_lines(mixed), name="docker")
    parts = in_parts(text(2))
    read("".join(f"{TIME} stdout {'F' if part == parts[-1] else 'P'} {part}\n" for part in parts), name="cri")
    parts = in_parts(text(3))
    firelens = [
        {"log": part, "partial_message": "true", "partial_id": "x", "partial_last": str(part == parts[-1]).lower()} for part in parts
    ]
    read(json_lines(firelens), name="firelens")
    fluent = [
        {"log": part, "stream": "stdout", "logtag": "F" if part == parts[-1] else "P"} for part in in_parts(text(3)[:-1] + ', "a": 1}')
    ]
    found = read(json_lines([*fluent[:-1], fluent[-1] | {"logtag": "F"}]).replace(b"call-3", b"call-4"), name="fluent")
    assert models(found) == names(0, 1, 2, 3, 4)
    assert found.refused == []


def test_a_message_whose_last_part_is_missing_is_refused_where_it_began(read: Reading) -> None:
    parts = in_parts(text(1))
    lines = [f"{TIME} stdout F {text(0)}", *(f"{TIME} stdout P {part}" for part in parts[:-1])]
    found = read("\n".join(lines))
    assert (models(found), found.refused) == (names(0), [(2, "a message in parts of which the last is missing")])


def test_no_wrapper_takes_away_what_a_format_recognises_by_itself(read: Reading) -> None:
    tricky = {"data": [call(9)], "message": text(8), "events": [], "log": MESSAGE}
    found = read(json_lines([call(number, **tricky) for number in range(3)]))
    assert (found.result.records, models(found)) == (3, names(0, 1, 2))
    found = read(
        json_lines([langfuse.BASE | {"id": f"o{number}", "metadata": {"data": [call(7)]}} for number in range(2)]), name="langfuse"
    )
    assert (found.result.records, found.result.formats) == (2, ("langfuse",))


def test_records_of_several_formats_stand_in_one_object(read: Reading) -> None:
    lines = [text(0), json.dumps(langfuse.BASE), json.dumps(otlp.document(otlp.span(1), otlp.span(2))), json.dumps({"message": text(1)})]
    found = read("\n".join(lines))
    assert (found.result.records, found.result.ingested) == (5, 5)
    assert found.result.formats == ("langfuse", "litellm", "otlp")


def test_a_format_that_was_asked_for_is_found_in_wrappers_too_and_refused_in_its_own_words(read: Reading, tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(
        'name = "acme"\n[columns]\nattempt_id = "id"\nstarted_at = "ts"\nmodel = "model"\nstatus = "how"\nsession_id = "data.session"\n'
    )
    record = {"id": "a", "ts": START_S, "model": "m", "how": "success", "data": {"session": "s"}}
    wrapped = [{"id": "event", "timestamp": 1, "message": json.dumps(record)}, {"data": [record | {"id": "b"}]}, record | {"id": "c"}]
    lacking = {"id": "d", "ts": START_S, "model": "m", "data": [1, 2]}
    found = read(json_lines([*wrapped, lacking]), str(tmp_path / "acme.toml"))
    assert {row["attempt_id"] for row in found.rows} == {"a", "b", "c"}
    assert found.refused == [(4, "status is none of success, failure, cancelled")]
    assert read_mapping(tmp_path / "acme.toml").columns_read == {"id", "ts", "model", "how", "data"}


# What nobody knows

UNKNOWN = {"uuid": "jane@example.org", "created": 1, "llm": "m", "tokens": {"in": 5}, "elapsed": 2}


def test_an_unknown_record_is_told_by_its_names_and_what_to_do_and_in_nobodys_words(read: Reading) -> None:
    found = read(json_lines([UNKNOWN, UNKNOWN]))
    why = "no known log format: its fields are uuid, created, llm, tokens, elapsed; name its format with --format, or describe it in a TOML file"
    assert [reason for _, reason in found.refused] == [f"{why} (docs/formats.md)"] * 2
    assert found.result.formats == ("unknown",)


def test_names_that_are_none_are_masked_and_many_are_counted(read: Reading) -> None:
    hostile = {
        "jane@example.org": 1,
        "sk-12345678": 2,
        "<script>alert(1)</script>": 3,
        "x" * 500: 4,
        "ok": 5,
        "": 6,
        "a b": 7,
        "b\n": 8,
        "c": 9,
    }
    reason = read(json.dumps(hostile)).refused[0][1]
    assert "its fields are ***, ok and 1 more;" in reason
    assert not any(word in reason for word in ("jane", "script", "12345678", "xxxx"))


def test_the_nearest_known_format_is_named_when_it_knows_most_of_the_names(read: Reading) -> None:
    near = {name: value for name, value in call(0).items() if name not in {"litellm_call_id", "startTime"}}
    reason = read(json.dumps(near)).refused[0][1]
    assert "nearest is litellm, which has litellm_call_id, " in reason or "nearest is litellm, which has startTime too" in reason
    observation = {"id": "o", "parent": "t", "type": "GENERATION", "startTime": "2026-11-23T02:13:20Z", "modelId": "m", "usage": {}}
    reason = read(json.dumps(observation), name="b").refused[1][1]
    assert "startTime is missing" not in reason
    assert "no known log format" in reason


def test_the_records_of_an_unknown_page_are_counted_one_by_one(read: Reading, places: Any) -> None:
    pages = [
        {"data": [UNKNOWN] * 5, "meta": {"page": 1}},
        {"logEvents": [{"id": "1", "timestamp": 1, "message": "hello"}] * 3, "logGroup": "g"},
    ]
    found = read(json_lines(pages))
    assert (found.result.records, found.result.quarantined) == (8, 8)
    assert places() == [*((1, nth) for nth in range(1, 6)), *((2, nth) for nth in range(1, 4))]


def test_an_unknown_record_with_a_list_in_it_is_one_record(read: Reading) -> None:
    agent = {"run": 1, "model": "m", "started": 5, "outcome": "ok", "cost": 1, "events": [{"step": 1}, {"step": 2}], "data": []}
    assert read(json_lines([agent, agent])).result.quarantined == 2


def test_an_unknown_table_is_refused_with_all_its_rows_and_its_columns(tmp_path: Path) -> None:
    rows = [{"when": f"2026-11-23 02:13:{second:02d}", "llm": "gpt-4o", "usd": 0.5} for second in range(40)]
    with duckdb.connect() as connection:
        relation = connection.from_arrow(__import__("pyarrow").Table.from_pylist(rows))
        (tmp_path / "logs").mkdir()
        relation.write_parquet(str(tmp_path / "logs" / "a.parquet"))
        relation.write_csv(str(tmp_path / "logs" / "b.csv"))
        relation.write_csv(str(tmp_path / "logs" / "c.csv"), sep=";")
    found = read_logs(tmp_path / "logs", tmp_path / "home")
    assert (found.result.records, found.result.quarantined) == (120, 120)
    assert {reason.partition(":")[0] for _, reason in found.refused} == {
        "Parquet whose columns are those of no known log format",
        "CSV whose columns are those of no known log format",
    }
    assert all("its columns are when, llm, usd; " in reason for _, reason in found.refused)
    totals = Lake(Home(tmp_path / "home")).totals()
    assert sum(reason.count for reason in totals.reasons) == 120
    assert totals.other_reasons == 0


def test_what_a_format_leaves_out_is_counted_and_told(read: Reading, tmp_path: Path) -> None:
    spans = [otlp.span(0), otlp.span(1, {"http.request.method": "GET"}), otlp.span(2, {"db.system": "postgres"})]
    found = read(json.dumps(otlp.document(*spans)), name="traces")
    assert (found.result.records, found.result.left_out) == (1, {"spans that are no model calls": 2})
    found = read(json_lines([langfuse.BASE, langfuse.BASE | {"id": "s", "type": "SPAN"}]), name="langfuse")
    assert (found.result.records, found.result.left_out) == (1, {"observations that are no generations, traces and scores": 1})
    totals = Lake(Home(tmp_path / "home")).totals()
    assert totals.left_out == {"spans that are no model calls": 2, "observations that are no generations, traces and scores": 1}
    assert totals.records == totals.ingested + totals.quarantined + totals.duplicates == 2


def test_what_is_left_out_does_not_move_the_lines_of_what_is_refused(read: Reading) -> None:
    span = langfuse.BASE | {"type": "SPAN"}
    lines = [
        span,
        langfuse.BASE,
        span,
        langfuse.BASE | {"id": "b", "total_cost": "-1"},
        span,
        langfuse.BASE | {"id": "c", "start_time": None},
    ]
    found = read(json_lines(lines))
    assert [line for line, _ in found.refused] == [4, 6]
    assert found.result.left_out == {"observations that are no generations, traces and scores": 3}


# Pieces


def test_pieces_say_what_they_are_and_where_they_begin() -> None:
    content = b'x\n{"a": 1} {"b": [2]} 5, "s"\n[{"c": {\n"d": 4}}]\n{"e": tru\n{"f": 6}'
    found = [(each.kind, each.line) for each in pieces(io.BytesIO(content), lambda value: "f" in value, 1_000)]
    assert found == [("line", 1), ("object", 2), ("object", 2), ("scalar", 2), ("scalar", 2), ("object", 3), ("broken", 5), ("object", 6)]
    by_line = [(each.kind, each.line) for each in pieces_of_lines(io.BytesIO(content), lambda value: "f" in value, 1_000)]
    assert by_line[:5] == found[:5]
    assert ("broken", 3) in by_line
    assert by_line[-1] == ("object", 6)


def test_left_out_and_lost_are_told_apart() -> None:
    items = list(Shapes(None, 1_000, is_wrapped=True).read_lines(io.BytesIO(b"hello\n{\n")))
    assert [type(item) for item in items] == [LeftOut, Lost]


def test_a_parquet_column_of_any_name_may_hold_records(read: Reading, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"n": [1, 2], "request": calls(2)}), file)
    found = read(file.read_bytes(), name="rows.parquet")
    assert (models(found), found.refused) == (names(0, 1), [])
