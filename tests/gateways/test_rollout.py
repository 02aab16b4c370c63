"""Steps of a roll-out: who may take them, what they write, and what takes them back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from routing_pipeline.cli.decide import _into_the_gateway
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Estimate, Measured, Unidentifiable
from routing_pipeline.gateways.litellm_classifier import Classifier
from routing_pipeline.gateways.planned import plan_of
from routing_pipeline.gateways.rollout import Rollout
from routing_pipeline.gateways.rollout_settings import RolloutSettings, read_rollout
from routing_pipeline.gateways.table import gateway_of
from routing_pipeline.recommendation.canary import ALPHA, CanaryLook, Guardrail, Standing, Watched
from routing_pipeline.rules.model import RuleSet, WeightedModel
from routing_pipeline.rules.published_weights import published_weights
from routing_pipeline.rules.record import RuleSetRecord, record_of
from routing_pipeline.rules.tiers import plain_models
from routing_pipeline.storage.home import Home

NOW = datetime(2026, 3, 10, tzinfo=UTC)
DAY = timedelta(days=1)


class World:
    """A home with one published rule set, and a clock."""

    def __init__(self, tmp_path: Path, rule_set: RuleSet, *, automatic: bool = True) -> None:
        self.home = Home(tmp_path / "home").create()
        self.rule_set, self.now, self.out = rule_set, NOW, tmp_path / "gateway"
        self.record: RuleSetRecord = record_of(self.home)
        self.settings = RolloutSettings(automatic=automatic, gateway="json-logic", to=str(self.out))
        self.record.propose(rule_set, 0.6, 0.7, now=NOW)
        self.record.approve(rule_set.rule_set_id, "Ada", now=NOW)
        self.record.publish(rule_set.rule_set_id, "Ada", now=NOW)

    @property
    def rollout(self) -> Rollout:
        return Rollout(self.home, self.record, self.settings)

    def after(self, days: float) -> World:
        self.now += days * DAY
        return self

    def look(self, **standings: Standing) -> CanaryLook:
        return look(self.rule_set.rule_set_id, self.now, **standings)

    def go(self, **standings: Standing):
        return self.rollout.go(self.look(**standings) if self.rollout.live()[1].steps else None, now=self.now)

    @property
    def written(self) -> dict:
        return json.loads((self.out / "routing_rules.json").read_text())


def look(rule_set_id: str, at: datetime, sessions_in_step: int = 500, **standings: Standing) -> CanaryLook:
    def guardrail(watched: Watched) -> Guardrail:
        standing = standings.get(watched, "open")
        told: Measured = Estimate(estimate=-0.01, low=-0.03, high=0.01)
        if standing == "cannot tell":
            told = Unidentifiable(unidentifiable="too few")
        return Guardrail(watched=watched, control=0.8, difference=told, limit=-0.02, standing=standing)

    return CanaryLook(
        rule_set_id=rule_set_id,
        data_until_s=at.timestamp(),
        share_of_requests=0.6,
        canary_requests=1_000,
        control_requests=9_000,
        canary_sessions=500,
        sessions_in_step=sessions_in_step,
        guardrails=tuple(guardrail(each) for each in ALPHA),
    )


@pytest.fixture
def world(tmp_path: Path, worlds: SimpleNamespace) -> World:
    return World(tmp_path, worlds.proposing().rule_set)


def test_a_sound_change_goes_through_all_steps_and_each_writes_its_share(world: World) -> None:
    shares = []
    for days in (0, 2.1, 5.1, 7.1, 7.1):
        assert world.after(days).go(quality="cleared") is not None
        shares.append(world.written["share"]["of"])
    assert shares == [0.01, 0.05, 0.25, 0.5, 1]
    assert world.after(30).go(quality="cleared") is None
    assert world.rollout.status(None).next == "done"


def test_a_control_is_kept_for_good_and_a_fall_that_begins_later_still_takes_the_rules_back(world: World) -> None:
    world.settings = replace(world.settings, control=0.05)
    for days in (0, 2.1, 5.1, 7.1, 7.1):
        assert world.after(days).go(quality="cleared") is not None
    assert world.written["share"]["of"] == 0.95
    assert world.after(30).go(quality="cleared") is None
    status = world.rollout.status(world.look(), now=world.now)
    assert (status.next, status.because) == ("done", "all sessions follow the rules but 5.0 %, which stay a control")
    assert world.after(30).go(quality="crossed").change == "roll_back"


def test_a_step_says_what_whoever_runs_the_gateway_should_know_of_it(world: World) -> None:
    rollout = world.rollout
    rollout.advance("Ada", "", None, now=world.now)
    assert rollout.status(None, now=world.now, written=rollout.written).notes == plan_notes(world)
    assert rollout.status(None, now=world.now).notes == ()


def plan_notes(world: World) -> tuple[str, ...]:
    plan = plan_of(world.rule_set.model_copy(update={"status": "published"}), 0.01)
    return gateway_of("json-logic").write(plan, None, None).notes


def test_what_is_live_is_followed_by_the_command_that_brings_it_into_the_gateway(world: World, tmp_path: Path) -> None:
    live = world.rule_set.rule_set_id
    assert "export --rules" in (_into_the_gateway(world.home, world.record, live, None) or "")
    config = tmp_path / "routing.toml"
    config.write_text(f'[rollout]\ngateway = "json-logic"\nto = "{world.out}"\n')
    assert _into_the_gateway(world.home, world.record, live, config) == "routing-pipeline rollout advance --by NAME"
    world.go()
    assert _into_the_gateway(world.home, world.record, live, config) == "routing-pipeline rollout status"
    assert _into_the_gateway(world.home, world.record, None, config) is None


def test_nothing_acts_unless_it_is_told_to(tmp_path: Path, worlds: SimpleNamespace) -> None:
    world = World(tmp_path, worlds.proposing().rule_set, automatic=False)
    assert world.go() is None
    assert not world.out.exists()
    world.rollout.advance("Ada", "", None, now=world.now)
    assert world.after(9).go(quality="crossed") is None, "a person decides, also about going back"
    assert world.rollout.status(world.look(quality="crossed"), now=world.now).next == "roll_back"


def test_a_step_is_not_left_before_its_days_are_over_and_looking_twice_takes_one_step(world: World) -> None:
    world.go()
    assert world.go(quality="cleared") is None
    assert world.after(1.9).go(quality="cleared") is None
    assert world.after(0.2).go() is not None
    assert world.go() is None


def test_a_broken_guardrail_writes_the_way_back_at_the_same_look(world: World) -> None:
    world.go()
    done = world.after(0.5).go(completion="crossed")
    assert (done.change, done.share) == ("roll_back", 0.0)
    assert done.evidence["guardrails"][1]["standing"] == "crossed"
    assert world.record.live() is None
    assert world.written["rule_set_id"] is None
    assert world.rollout.go(None, now=world.now) is None


def test_a_gateway_that_still_runs_the_canarys_configuration_follows_nobody_after_a_roll_back(world: World, tmp_path: Path) -> None:
    models = [*plain_models(world.rule_set), "today"]
    current = tmp_path / "config.yaml"
    current.write_text(
        "model_list:\n" + "".join(f"- {{model_name: {each}, litellm_params: {{model: openai/{each}}}}}\n" for each in models)
    )
    world.settings = RolloutSettings(automatic=True, gateway="litellm", to=str(world.out), current=str(current), default_model="today")
    world.go()
    deciding = Classifier(path=str(world.out / "routing_rules.json"))
    asked = {"task_type": world.rule_set.rules[0].when.task_type[0], "complexity": 0.01, "prompt_tokens": 10}
    assert any(deciding.decide(asked, f"s{n}")[1] for n in range(200))
    world.after(0.1).go(quality="crossed")
    assert (world.out / "config.yaml").read_text() == current.read_text()
    deciding = Classifier(path=str(world.out / "routing_rules.json"))
    assert {deciding.decide(asked, f"s{n}")[0] for n in range(200)} == {"unchanged"}


def test_without_a_sure_quality_the_last_step_waits_for_a_person_and_a_reason(world: World) -> None:
    for days in (0, 3, 6, 8):
        world.after(days).go()
    assert world.after(8).go(quality="open") is None
    waiting = world.rollout
    seen = world.look(quality="open")
    with pytest.raises(UnusableInputError, match="--because"):
        waiting.advance("Ada", "", seen, now=world.now)
    done = waiting.advance("Ada", "the review of samples was good", seen, now=world.now)
    assert (done.share, done.is_override) == (1.0, True)


def test_unscored_traffic_stays_at_a_quarter(world: World) -> None:
    for days in (0, 3, 6):
        world.after(days).go(quality="cannot tell")
    assert world.after(30).go(quality="cannot tell") is None
    assert world.written["share"]["of"] == 0.25


def test_a_person_holds_and_a_guardrail_still_takes_it_back(world: World) -> None:
    world.go()
    world.rollout.hold("Ada", "the team is away", None, now=world.now)
    assert world.after(9).go(quality="cleared") is None
    assert "held by Ada: the team is away" in world.rollout.status(world.look(), now=world.now).because
    assert world.go(quality="crossed").change == "roll_back"


def test_an_old_approval_lets_nothing_go_on(world: World) -> None:
    world.go()
    assert world.after(31).go(quality="cleared") is None
    with pytest.raises(UnusableInputError, match="approval is older than 30 days"):
        world.rollout.advance("Ada", "", world.look(), now=world.now)


def test_a_canary_that_the_gateway_never_loaded_does_not_count(world: World) -> None:
    world.go()
    unseen = look(world.rule_set.rule_set_id, world.after(9).now, sessions_in_step=0)
    assert world.rollout.go(unseen, now=world.now) is None
    assert "see that the gateway has loaded its configuration" in world.rollout.status(unseen, now=world.now).because


def test_what_was_rolled_back_begins_anew_when_it_is_published_again(world: World) -> None:
    world.go()
    world.after(3).go()
    world.rollout.roll_back("Ada", "an incident elsewhere", None, now=world.now)
    world.after(1)
    world.record.approve(world.rule_set.rule_set_id, "Ada", now=world.now)
    world.record.publish(world.rule_set.rule_set_id, "Ada", now=world.now)
    assert world.rollout.live()[1].share == 0
    assert world.go().share == 0.01


def test_who_was_ended_between_the_record_and_the_configuration_is_caught_up_with(world: World) -> None:
    world.go()
    path = world.out / "routing_rules.json"
    before = path.read_bytes()
    path.unlink()
    assert world.rollout.settle()
    assert path.read_bytes() == before
    stamp = path.stat().st_mtime_ns
    world.rollout.settle()
    assert path.stat().st_mtime_ns == stamp, "what is written already is not written again"


def test_a_configuration_that_is_not_that_of_the_last_step_is_told(world: World) -> None:
    assert world.rollout.status(None, now=world.now).is_written is None
    world.go()
    assert world.rollout.status(None, now=world.now).is_written is True
    (world.out / "routing_rules.json").write_text("{}")
    assert world.rollout.status(None, now=world.now).is_written is False
    (world.out / "routing_rules.json").unlink()
    assert world.rollout.status(None, now=world.now).is_written is False


def test_of_two_who_act_at_once_one_is_first(world: World) -> None:
    one, other = world.rollout, world.rollout
    seen = other.steps.transitions()
    assert one.go(None, now=world.now) is not None
    assert other.steps.append(seen, one.steps.transitions()[0]) is False
    assert len(one.steps.transitions()) == 1


def test_a_clock_that_goes_back_neither_loses_a_step_nor_repeats_it(world: World) -> None:
    world.after(-2)
    assert world.go().share == 0.01
    assert world.go() is None, "the step that was taken before its publication counts"
    assert world.rollout.live()[1].share == 0.01
    assert world.after(5).go().share == 0.05
    world.after(-4).go(quality="crossed")
    for decide in (world.record.approve, world.record.publish):
        decide(world.rule_set.rule_set_id, "Ada", now=world.now)
    world.rollout.settle()
    assert world.record.live() == world.rule_set.rule_set_id, "the roll-back of before is not of what was published after it"
    assert world.go().share == 0.01


def test_a_step_that_a_clock_dated_too_late_is_named_as_what_is_waited_for(world: World) -> None:
    world.after(10).go()
    status = world.after(-9).rollout.status(None, now=world.now)
    assert (status.next, status.because) == (
        "wait",
        "the last step is dated 20 Mar 2026 00:00 UTC, as a clock was ahead; what the logs show counts from then on",
    )
    assert world.rollout.advance("Ada", "seen elsewhere", None, now=world.now).is_override


def ended_while_taking_back(world: World) -> None:
    """A roll-back that is a transition, and that the record of rule sets does not know yet."""
    world.go()
    at = world.after(1).now
    step = world.rollout.steps.transitions()[0]
    back = step.model_copy(update={"change": "roll_back", "share": 0.0, "by": "Ada", "because": "an incident", "at": at})
    assert world.rollout.steps.append((step,), back)


def test_who_was_ended_while_taking_back_is_caught_up_with_before_anything_is_decided(world: World) -> None:
    ended_while_taking_back(world)
    assert world.go() is None
    assert world.record.live() is None
    assert [each.change for each in world.rollout.steps.transitions()] == ["advance", "roll_back"]


def test_a_person_who_takes_back_again_what_was_begun_takes_nothing_else_back(world: World) -> None:
    before = world.rule_set.model_copy(update={"rule_set_id": "before", "goal": "cost"})
    world.record.propose(before, 0.01, 0.01, now=NOW)
    world.record.roll_back("Ada", now=NOW)
    world.record.publish("before", "Ada", now=NOW)
    world.record.approve(world.rule_set.rule_set_id, "Ada", now=NOW)
    world.record.publish(world.rule_set.rule_set_id, "Ada", now=NOW)
    ended_while_taking_back(world)
    done = world.rollout.roll_back("Eve", "an incident", None, now=world.now)
    assert (done.by, done.rule_set_id, world.record.live()) == ("Ada", world.rule_set.rule_set_id, "before")
    assert [each.change for each in world.rollout.steps.transitions()] == ["advance", "roll_back"]


def test_a_person_who_decides_finds_the_configuration_as_the_record_says(world: World) -> None:
    world.go()
    (world.out / "routing_rules.json").unlink()
    with pytest.raises(UnusableInputError, match="say why"):
        world.rollout.advance("Ada", "", None, now=world.now)
    assert world.written["share"]["of"] == 0.01


def test_who_writes_over_what_was_decided_meanwhile_looks_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go()
    (world.out / "routing_rules.json").unlink()
    slow, put = world.rollout, Rollout._put
    meanwhile = [lambda: world.rollout.roll_back("Ada", "an incident", None, now=world.now)]

    def late(self: Rollout, files: dict[str, str]) -> tuple[str, ...]:
        if self is slow and meanwhile:
            meanwhile.pop()()
        return put(self, files)

    monkeypatch.setattr(Rollout, "_put", late)
    slow.settle()
    assert world.written["rule_set_id"] is None


def test_a_step_that_cannot_be_written_is_not_recorded_and_a_roll_back_is(world: World) -> None:
    world.out.parent.joinpath("gateway").write_text("a file where the folder should be")
    with pytest.raises(UnusableInputError, match="folder that can be written to"):
        world.go()
    assert not world.rollout.steps.transitions()
    world.out.unlink()
    world.go()
    assert not list(world.out.glob(".written-to-*")), "nothing is left of the check"
    settings = replace(world.settings, to=str(world.out / "routing_rules.json"))
    with pytest.raises(UnusableInputError, match="folder that can be written to"):
        Rollout(world.home, world.record, settings).go(world.look(quality="crossed"), now=world.after(1).now)
    assert world.rollout.steps.transitions()[-1].change == "roll_back"
    world.rollout.settle()
    assert (world.record.live(), world.written["rule_set_id"]) == (None, None)


def test_a_roll_back_from_the_record_is_followed_by_the_gateway(world: World) -> None:
    world.go()
    world.record.roll_back("Ada", now=world.now)
    world.rollout.settle()
    assert world.written["rule_set_id"] is None


def test_the_home_notes_which_weights_were_published_when(world: World) -> None:
    world.go()
    world.after(3).go()
    one, two = published_weights(world.home).periods
    assert (one.share, two.share, one.end_s, two.end_s) == (0.01, 0.05, two.start_s, None)
    assert all(abs(sum(route.values()) - 1) < 1e-9 for route in two.routes.values())


def test_weights_are_noted_of_the_models_that_a_tier_stood_for(tmp_path: Path, worlds: SimpleNamespace) -> None:
    made = worlds.proposing().rule_set
    tier = (WeightedModel(model="tier:economy", weight=1.0),)
    rules = tuple(rule.model_copy(update={"route": tier, "fallbacks": ()}) for rule in made.rules)
    world = World(tmp_path, made.model_copy(update={"rules": rules}))
    config = tmp_path / "routing.toml"
    config.write_text("".join(f'[models.{each}]\ntier = "economy"\n' for each in ("small", "tiny")))
    Rollout(world.home, world.record, world.settings, config).advance("Ada", "", None, now=NOW)
    noted = published_weights(world.home).periods[0].routes
    assert noted == {rule.id: {"small": 0.5, "tiny": 0.5} for rule in rules}
    assert "tiny" in (world.out / "routing_rules.json").read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("automatic = 1", "true or false"),
        ("automatic = true", "name the gateway"),
        ('gateway = "litelm"', "litelm"),
        ('gateway = "litellm"', "a roll-back writes it"),
        ('gatway = "litellm"', "gatway"),
        ('gateway = "json-logic"\napproval_days = 0', "above 0"),
        ('gateway = "json-logic"\ncontrol = 5', "share of the sessions from 0 to 0.4"),
    ],
)
def test_settings_that_could_not_act_are_refused(tmp_path: Path, text: str, why: str) -> None:
    config = tmp_path / "routing.toml"
    config.write_text(f"[rollout]\n{text}\n")
    with pytest.raises(UnusableInputError, match=why):
        read_rollout(config)


def test_without_settings_nothing_is_automatic() -> None:
    assert read_rollout(None).automatic is False
