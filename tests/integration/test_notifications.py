"""Messages to a real receiver on the loopback: what arrives, and what happens where nothing does."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from receiver import Receiver

from routing_pipeline.alerts.notifications import ENVIRONMENT, notify, read_channels, tell
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import read_parameters


def test_a_message_reaches_every_channel(receiver: Receiver) -> None:
    assert notify([f"{receiver.url}/one", f"{receiver.url}/two"], "cost spike", "spend: $50\nmost from team 'a'") == ()
    assert [each["title"] for each in receiver.received] == ["cost spike"] * 2
    assert receiver.received[0]["message"] == "spend: $50\nmost from team 'a'"


def test_channels_that_are_slow_to_answer_are_not_waited_for_one_after_another(receiver: Receiver) -> None:
    receiver.together = threading.Barrier(8)
    assert notify([f"{receiver.url}/together"] * 8, "title", "body") == ()
    assert len(receiver.received) == 8


def test_a_failing_channel_keeps_no_other_from_being_told_and_its_secret_stays_secret(receiver: Receiver) -> None:
    channels = [
        f"json://user:hunter2@127.0.0.1:{receiver.server_port}/broken",
        "json://127.0.0.1:9/hunter2",
        "hunter2",
        f"{receiver.url}/fine",
    ]
    failed = notify(channels, "title", "body")
    assert len(failed) == 3
    assert "hunter2" not in "".join(failed)
    assert receiver.received[-1]["message"] == "body"


def test_hostile_names_mention_nobody_and_stay_short(receiver: Receiver) -> None:
    assert notify([receiver.url], "t" * 1000, "team '@everyone <!channel> \x1b[31m\u202e" + "x" * 10_000) == ()
    (message,) = receiver.received
    assert len(message["message"]) <= 2_000
    assert all(bad not in message["message"] for bad in ("@everyone", "<!channel", "\x1b", "\u202e"))


def config(folder: Path, text: str) -> Path:
    path = folder / "routing.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_channels_come_from_the_configuration_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_CHAT", "json://chat")
    monkeypatch.setenv(ENVIRONMENT, "json://one  json://two")
    path = config(tmp_path, '[notifications]\nurls = ["json://file", "env:TEAM_CHAT"]\n')
    assert read_channels(path) == ("json://file", "json://chat", "json://one", "json://two")
    monkeypatch.delenv(ENVIRONMENT)
    assert read_channels(None) == ()


def test_addresses_are_no_parameter_and_reach_no_report(tmp_path: Path) -> None:
    path = config(tmp_path, '[notifications]\nurls = ["slack://hunter2"]\n')
    assert "hunter2" not in read_parameters(path).model_dump_json()


@pytest.mark.parametrize(
    "text",
    [
        'notifications = "hunter2"\n',
        '[notifications]\nurls = "hunter2"\n',
        '[notifications]\nurl = ["hunter2"]\n',
        '[notifications]\nurls = ["env:NO_SUCH"]\n',
        '[notifications]\ndagster_url = "https://me:hunter2@dagster.example.com"\n',
        '[notifications]\nfailed_runs = "hunter2"\n',
    ],
)
def test_a_wrong_configuration_is_one_line_without_the_address_and_stops_no_run(tmp_path: Path, text: str) -> None:
    path = config(tmp_path, text)
    with pytest.raises(UnusableInputError) as error:
        read_channels(path)
    assert "notifications" in str(error.value)
    assert "hunter2" not in str(error.value)
    (said,) = tell(path, "title", "body")
    assert "no channel of the configuration file was notified" in said
