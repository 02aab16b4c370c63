"""Proposed, approved, published, rolled back: every move from every state, and a record that nobody rewrites unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.rules.delivery import delivered
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.record import Latest, RuleSetRecord, read_publishing
from routing_pipeline.rules.record_files import RecordFiles
from routing_pipeline.storage.files import FolderStorage, Stored
from tests.recommendation.test_realized_outcomes import promise

OLD, NEW = "2026-11-01T00:00:00Z-aaaa", "2026-11-08T00:00:00Z-bbbb"
SMALL, LARGE = 0.05, 0.051


def proposed(rule_set_id: str = NEW) -> RuleSet:
    return promise(rule_set_id).model_copy(update={"status": "proposed"})


@pytest.fixture
def record(tmp_path: Path) -> RuleSetRecord:
    return RuleSetRecord(RecordFiles(FolderStorage(tmp_path / "rule_sets")))


def small(record: RuleSetRecord) -> None:
    record.propose(proposed(), SMALL, SMALL)


def large(record: RuleSetRecord) -> None:
    record.propose(proposed(), 0.0, LARGE)


def approved(record: RuleSetRecord) -> None:
    large(record)
    record.approve(NEW, "Ada")


def live(record: RuleSetRecord) -> None:
    approved(record)
    record.publish(NEW, "Ada")


def replaced(record: RuleSetRecord) -> None:
    live(record)
    record.propose(proposed(OLD), SMALL, SMALL)
    record.publish(OLD, "Ada")


def rolled_back(record: RuleSetRecord) -> None:
    live(record)
    record.roll_back("Ada")


def nothing(record: RuleSetRecord) -> None:
    record.propose(proposed().model_copy(update={"status": "no_change", "rules": ()}), 0.0, 0.0)


def absent(record: RuleSetRecord) -> None:
    assert record.proposal(NEW) is None


Reach = Callable[[RuleSetRecord], None]
MOVES: tuple[tuple[Reach, str, str], ...] = (
    # (how the state is reached, move, state after it or what is said against it)
    (small, "approve", "approved"),
    (small, "publish", "published"),
    (small, "roll_back", "is not live"),
    (large, "approve", "approved"),
    (large, "publish", "waits for approval (it moves 0.0 % of traffic and 5.1 % of spend)"),
    (large, "roll_back", "is not live"),
    (approved, "approve", "is approved already"),
    (approved, "publish", "published"),
    (approved, "roll_back", "is not live"),
    (live, "approve", "is published already"),
    (live, "publish", "published"),
    (live, "roll_back", "rolled_back"),
    (replaced, "approve", "is published already"),
    (replaced, "publish", "published"),
    (replaced, "roll_back", f"is not live (published); {OLD} is live"),
    (rolled_back, "approve", "approved"),
    (rolled_back, "publish", "was rolled back, so it needs an approval again"),
    (rolled_back, "roll_back", "is not live (rolled back); no rule set is live"),
    (nothing, "approve", "changes nothing"),
    (nothing, "publish", "changes nothing"),
    (nothing, "roll_back", "changes nothing"),
    (absent, "approve", "no rule set"),
    (absent, "publish", "no rule set"),
    (absent, "roll_back", "no rule set"),
)


@pytest.mark.parametrize(("reach", "move", "then"), MOVES, ids=[f"{reach.__name__}-{move}" for reach, move, _ in MOVES])
def test_every_move_from_every_state(record: RuleSetRecord, reach: Reach, move: str, then: str) -> None:
    reach(record)
    before = record.place.names("record")

    def moved() -> str:
        if move == "roll_back":
            return record.roll_back("Grace", rule_set_id=NEW).state
        return getattr(record, move)(NEW, "Grace").state

    if then in {"approved", "published", "rolled_back"}:
        assert moved() == then
        return
    with pytest.raises(UnusableInputError) as refused:
        moved()
    assert then in str(refused.value)
    assert record.place.names("record") == before, "what is refused leaves no trace"


def test_the_record_says_who_when_and_why_in_order_and_chains_every_decision(record: RuleSetRecord) -> None:
    rolled_back(record)
    history = record.status(NEW).history
    assert [(each.number, each.move, each.by) for each in history] == [
        (1, "approve", "Ada"),
        (2, "publish", "Ada"),
        (3, "roll_back", "Ada"),
    ]
    assert all(each.at.tzinfo is not None for each in history)
    assert history[0].before_sha256 is None
    assert len({each.before_sha256 for each in history}) == 3
    assert len({each.seal for each in history}) == 1


def test_latest_names_what_is_live_and_where_its_rules_lie(record: RuleSetRecord) -> None:
    assert record.latest() is None
    live(record)
    latest = record.latest()
    assert latest is not None
    assert (latest.rule_set_id, latest.by) == (NEW, "Ada")
    published = RuleSet.model_validate_json((Path(record.place.uri) / str(latest.rules)).read_bytes())
    assert published == proposed().model_copy(update={"status": "published"})
    record.roll_back("Grace", "quality fell")
    after = record.latest()
    assert after is not None
    assert (after.rule_set_id, after.rules, after.sha256) == (None, None, None), "the gateway's own choice stands"
    assert after.number > latest.number


def test_rolling_back_brings_back_what_was_live_before(record: RuleSetRecord) -> None:
    for rule_set_id in (OLD, NEW):
        record.propose(proposed(rule_set_id), SMALL, SMALL)
        record.publish(rule_set_id, "Ada")
    assert record.roll_back("Ada").live == OLD
    assert record.status(OLD).verdict.endswith("live.")
    assert record.roll_back("Ada").live is None
    with pytest.raises(UnusableInputError, match="no rule set is live"):
        record.roll_back("Ada")


def test_published_again_after_it_was_replaced_the_same_file_is_live_again(record: RuleSetRecord) -> None:
    replaced(record)
    path = Path(record.place.uri) / "published" / f"{NEW.replace(':', '')}.json"
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert record.publish(NEW, "Ada").is_live
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_the_first_proposal_of_an_id_stands_and_other_rules_never_take_it(record: RuleSetRecord) -> None:
    first = record.propose(proposed(), SMALL, SMALL)
    again = proposed().model_copy(update={"warnings": ("computed again, one digit apart",)})
    assert record.propose(again, SMALL, SMALL) == first
    one, *_ = proposed().rules
    with pytest.raises(UnusableInputError, match="other rules were proposed"):
        record.propose(proposed().model_copy(update={"rules": (one,)}), SMALL, SMALL)


def edited(record: RuleSetRecord, name: str, old: str, new: str) -> None:
    path = Path(record.place.uri) / name
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def test_a_proposal_edited_by_hand_is_not_approved(record: RuleSetRecord) -> None:
    large(record)
    edited(record, f"proposed/{NEW.replace(':', '')}.json", '"moved_spend_share": 0.051', '"moved_spend_share": 0.001')
    with pytest.raises(UnusableInputError, match="changed after it was proposed"):
        record.publish(NEW, "Mallory")


def test_a_proposal_exchanged_after_its_approval_is_not_published(record: RuleSetRecord, tmp_path: Path) -> None:
    approved(record)
    other = RuleSetRecord(RecordFiles(FolderStorage(tmp_path / "other")))
    other.propose(proposed().model_copy(update={"rules": proposed().rules[:1]}), SMALL, SMALL)
    name = f"proposed/{NEW.replace(':', '')}.json"
    (Path(record.place.uri) / name).write_bytes((Path(other.place.uri) / name).read_bytes())
    with pytest.raises(UnusableInputError, match="not what was decided about"):
        record.publish(NEW, "Mallory")


def test_a_record_rewritten_by_hand_is_not_believed(record: RuleSetRecord) -> None:
    live(record)
    edited(record, "record/00000001.json", '"by": "Ada"', '"by": "Mallory"')
    with pytest.raises(UnusableInputError, match=r"00000002\.json: does not follow"):
        record.status(NEW)


def test_a_decision_taken_out_of_the_record_is_missed(record: RuleSetRecord) -> None:
    live(record)
    (Path(record.place.uri) / "record" / "00000001.json").unlink()
    with pytest.raises(UnusableInputError, match="does not follow"):
        record.status(NEW)


def test_other_content_under_a_published_id_is_never_overwritten(record: RuleSetRecord) -> None:
    approved(record)
    path = Path(record.place.uri) / "published" / f"{NEW.replace(':', '')}.json"
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(UnusableInputError, match="never overwritten"):
        record.publish(NEW, "Ada")
    assert path.read_text() == "{}"
    assert record.latest() is None


def test_a_rules_json_is_known_as_ours_only_as_it_was_proposed(record: RuleSetRecord) -> None:
    large(record)
    assert record.is_as_proposed(proposed().model_copy(update={"status": "published"})) is True
    assert record.is_as_proposed(proposed().model_copy(update={"rules": proposed().rules[:1]})) is False
    assert record.is_as_proposed(proposed("by-hand")) is None
    assert record.is_as_proposed(proposed("../../etc/passwd")) is None


@pytest.mark.parametrize("by", ["", "   ", "x" * 101, "A\u202eda", "A\nda", "A\x1b[31mda"])
def test_whoever_decides_says_so_in_letters_that_show(record: RuleSetRecord, by: str) -> None:
    large(record)
    with pytest.raises(UnusableInputError, match="--by"):
        record.approve(NEW, by)
    assert record.place.names("record") == []


@pytest.mark.parametrize("asked", ["../../../etc/passwd", "", "a/b", ".hidden", "x" * 101, "é"])
def test_what_is_no_id_reaches_no_path(record: RuleSetRecord, asked: str) -> None:
    with pytest.raises(UnusableInputError):
        record.approve(asked, "Ada")


class _Rules:
    """What an analysis found."""

    def __init__(self, share: float, rule_set: RuleSet | None = None) -> None:
        self.rule_set, self.moved_share, self.moved_spend_share = rule_set or proposed(), share, share
        self.options: tuple[_Rules, ...] = ()


def test_what_an_alert_found_is_neither_proposed_nor_published_by_itself(record: RuleSetRecord) -> None:
    rule_set, status = delivered(record, _Rules(SMALL), automatic=True, is_of_alert=True)
    assert (rule_set.status, status.state, status.is_live) == ("proposed", "proposed", False)
    assert "no proposal" in status.verdict
    assert record.proposal(rule_set.rule_set_id) is None
    assert record.promised() == ()
    assert record.latest() is None


def test_only_what_needs_no_approval_is_published_by_itself_and_only_where_that_is_wanted(record: RuleSetRecord) -> None:
    assert delivered(record, _Rules(SMALL))[0].status == "proposed"
    assert delivered(record, _Rules(LARGE, proposed(OLD)), automatic=True)[0].status == "proposed"
    rule_set, status = delivered(record, _Rules(SMALL), automatic=True)
    assert (rule_set.status, status.is_live, status.history[0].by) == ("published", True, "routing-pipeline, automatically")
    record.roll_back("Ada", "not yet")
    again, after = delivered(record, _Rules(SMALL), automatic=True)
    assert (again.status, after.state) == ("proposed", "rolled_back"), "what a person took back is not put out again by itself"


def test_every_option_can_be_approved_and_the_proposal_stays_the_newest(record: RuleSetRecord) -> None:
    found = _Rules(LARGE, proposed(NEW))
    found.options = (_Rules(SMALL, proposed(OLD)), found)
    rule_set, _ = delivered(record, found)
    assert rule_set.rule_set_id == NEW
    assert record.approve(OLD, "Ada").state == "approved"
    assert record.status(NEW).state == "proposed"


def test_a_run_finishes_what_a_killed_publisher_began(record: RuleSetRecord) -> None:
    live(record)
    pointer = Path(record.place.uri) / "latest.json"
    pointer.unlink()
    delivered(record, _Rules(LARGE))
    assert Latest.model_validate_json(pointer.read_bytes()).rule_set_id == NEW


class _Unreachable(RecordFiles):
    def read(self, name: str) -> Stored | None:
        raise ServiceUnavailableError(f"{name}: the endpoint does not answer")

    def names(self, folder: str) -> list[str]:
        raise ServiceUnavailableError(f"{folder}: the endpoint does not answer")


def test_a_record_that_cannot_be_reached_is_in_nobodys_way(tmp_path: Path) -> None:
    rule_set, status = delivered(RuleSetRecord(_Unreachable(FolderStorage(tmp_path))), _Rules(LARGE))
    assert rule_set.status == "proposed"
    assert "does not answer" in status.verdict


def test_promises_worth_holding_are_those_decided_about_and_the_newest_proposals(record: RuleSetRecord) -> None:
    ids = [f"2026-{month:02d}-01T00:00:00Z-0000" for month in range(1, 10)]
    for rule_set_id in ids:
        record.propose(proposed(rule_set_id), SMALL, SMALL)
    record.publish(ids[0], "Ada")
    assert [(rule_set.rule_set_id, status.state) for rule_set, status in record.promised(most=2)] == [
        (ids[-1], "proposed"),
        (ids[-2], "proposed"),
        (ids[0], "published"),
    ]


def test_where_rule_sets_go_is_configured_and_the_environment_wins(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[publishing]\nto = "s3://bucket/rules"\nautomatic = true\n')
    found = read_publishing(config)
    assert (found.to, found.automatic) == ("s3://bucket/rules", True)
    assert read_publishing(config, "/elsewhere").to == "/elsewhere"
    config.write_text("[publishing]\nautomatic = 1\n")
    with pytest.raises(UnusableInputError, match="publishing"):
        read_publishing(config)


def test_the_record_is_readable_json(record: RuleSetRecord) -> None:
    live(record)
    decisions = [json.loads((Path(record.place.uri) / "record" / name).read_text()) for name in record.place.names("record")]
    assert [each["move"] for each in decisions] == ["approve", "publish"]


def test_of_rule_sets_of_one_window_the_one_proposed_last_comes_first(record: RuleSetRecord) -> None:
    window = "2026-11-22T23:59:51Z"
    for minute, letters in enumerate(("a1b9", "54d0", "088d")):
        record.propose(proposed(f"{window}-{letters}"), SMALL, SMALL, now=datetime(2026, 11, 23, 6, minute, tzinfo=UTC))
    assert [rule_set.rule_set_id[-4:] for rule_set, _ in record.promised()] == ["088d", "54d0", "a1b9"]
