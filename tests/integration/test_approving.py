"""Approving, publishing and rolling back as a person does it: on the command line and in Dagster."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import deciding
from assets.delivery import routing_rule_set
from assets.resources import HomeResource, ResultsIOManager
from checks.delivery import significant_changes_are_approved
from routing_pipeline.cli import main
from routing_pipeline.estimates import Estimate, Result, Unidentifiable
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.record import record_of
from routing_pipeline.storage.home import Home
from tests.recommendation.test_realized_outcomes import promise

ID, OTHER = "2026-11-01T00:00:00Z-abcd", "2026-11-08T00:00:00Z-dcba"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["routing-pipeline", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def found(rule_set_id: str = ID, share: float = 0.4, **changed: Any) -> RoutingRules:
    rule_set = promise(rule_set_id).model_copy(update={"status": "proposed", **changed})
    return RoutingRules(
        rule_set=rule_set,
        reasons=(),
        walk=(),
        moved_share=share,
        moved_spend_share=share / 2,
        saving_usd_per_day=Estimate(estimate=1, low=0, high=2),
        tipping_point=Unidentifiable(unidentifiable="x"),
    )


class Delivered(Result):
    """What a stored report holds of rules."""

    routing_rules: RoutingRules


def reported(home: Home, rules: RoutingRules) -> None:
    """A run that delivered these rules."""
    home.runs.begin("run-1", "0123456789abcdef")
    home.runs.keep("run-1", Delivered(routing_rules=rules), None, {})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def recorded(home: Home, rules: RoutingRules) -> RuleSet:
    return record_of(home).propose(rules.rule_set, rules.moved_share, rules.moved_spend_share).rule_set


def test_a_rule_set_is_approved_published_and_taken_back_by_command(command: Command, home: Home) -> None:
    recorded(home, found())
    at = ("--home", home.root)
    code, _, err = command("publish", ID, "--by", "Ada", *at)
    assert (code, f"routing-pipeline approve {ID} --by NAME" in err) == (2, True)
    code, out, _ = command("approve", ID, "--by", "Ada", "--because", "reviewed", *at)
    assert (code, "Approved by Ada" in out, f"next: routing-pipeline publish {ID} --by NAME --home {home.root}\n" in out) == (0, True, True)
    assert command("approve", ID, "--by", "Grace", *at)[0] == 2
    code, out, _ = command("publish", ID, "--by", "Grace", *at, "--json")
    status = json.loads(out)
    assert (code, status["state"], status["is_live"]) == (0, "published", True)
    assert [(each["move"], each["by"], each["because"]) for each in status["history"]] == [
        ("approve", "Ada", "reviewed"),
        ("publish", "Grace", ""),
    ]
    latest = json.loads((home.root / "rule_sets" / "latest.json").read_text())
    rules = json.loads((home.root / "rule_sets" / latest["rules"]).read_text())
    assert (rules["rule_set_id"], rules["status"]) == (ID, "published")
    assert command("publish", ID, "--by", "Grace", *at)[0] == 0, "what is live already is no error"
    code, out, _ = command("roll-back", "--by", "Ada", "--because", "quality fell", *at)
    assert (code, "Rolled back by Ada" in out, "no rule set is live" in out) == (0, True, True)
    code, _, err = command("roll-back", "--by", "Ada", *at)
    assert (code, len(err.strip().splitlines())) == (2, 1)


def test_latest_never_names_what_an_alert_found(command: Command, home: Home) -> None:
    at = ("--by", "Ada", "--home", home.root)
    home.runs.keep("alert", Delivered(routing_rules=found("2026-11-26T10:00:00Z-a1e7")), None, {}, key="b" * 16, is_of_alert=True)
    assert command("approve", "latest", *at)[0] == 2
    reported(home, found())
    home.runs.keep("again", Delivered(routing_rules=found("2026-11-26T10:00:00Z-a1e7")), None, {}, key="b" * 16, is_of_alert=True)
    code, out, err = command("approve", "latest", *at, "--json")
    assert (code, json.loads(out)["rule_set_id"]) == (0, ID), err


def test_latest_never_names_what_an_experiment_found(command: Command, home: Home) -> None:
    at = ("--by", "Ada", "--home", home.root)
    for name, question in (("cheap", "cost"), ("good", "quality")):
        rules = Delivered(routing_rules=found(f"2026-11-26T10:00:00Z-{name}"))
        home.runs.keep(name, rules, None, {}, key="b" * 16, is_experiment=True, question=question)
    code, _, err = command("approve", "latest", *at)
    assert (code, "name a rule set by its id" in err, len(err.strip().splitlines())) == (2, True, 1), err
    reported(home, found())
    home.runs.keep("again", Delivered(routing_rules=found(OTHER)), None, {}, key="b" * 16, is_experiment=True, question="speed")
    code, out, err = command("approve", "latest", *at, "--json")
    assert (code, json.loads(out)["rule_set_id"]) == (0, ID), err


def test_latest_is_the_rule_set_of_the_newest_report(command: Command, home: Home) -> None:
    at = ("--by", "Ada", "--home", home.root)
    code, _, err = command("approve", "latest", *at)
    assert (code, "no report has been made" in err) == (2, True)
    reported(home, found())
    code, out, _ = command("approve", "latest", *at, "--json")
    assert (code, json.loads(out)["rule_set_id"]) == (0, ID)
    nothing = found(OTHER, status="no_change", rules=())
    reported(home, nothing)
    code, _, err = command("approve", "latest", *at)
    assert (code, "proposes no change" in err) == (2, True)


def test_what_only_an_agent_asked_for_is_recorded_when_it_is_approved(command: Command, home: Home) -> None:
    rules = found()
    home.results.save("routing_rules", "0123456789abcdef", rules)
    home.results.remember_rule_set(ID, "0123456789abcdef")
    code, _, err = command("approve", ID, "--by", "Ada", "--home", home.root)
    assert code == 0, err
    proposal = record_of(home).proposal(ID)
    assert proposal is not None
    assert (proposal.rule_set, proposal.moved_share) == (rules.rule_set, 0.4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("approve", "2026-01-01T00:00:00Z-0000", "--by", "Ada"), "no rule set 2026-01-01T00:00:00Z-0000"),
        (("approve", "../../etc/passwd", "--by", "Ada"), "not the id of a rule set"),
        (("approve", ID), "by"),
        (("approve", ID, "--by", " "), "--by"),
        (("publish", "nonsense", "--by", "Ada"), "no rule set nonsense"),
        (("roll-back", "--by", "Ada"), "no rule set is live"),
        (("simulate", "--rules", "nonsense"), "no rule set"),
    ],
)
def test_what_cannot_be_decided_is_refused_in_one_line(command: Command, home: Home, words: tuple[str, ...], said: str) -> None:
    code, _, err = command(*words, "--home", home.root)
    assert (code, said in err, len(err.strip().splitlines())) == (2, True, 1), err


def test_a_place_elsewhere_is_named_by_the_environment_and_one_that_is_down_ends_with_four(
    command: Command, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTING_PIPELINE_PUBLISH", str(tmp_path / "elsewhere"))
    reported(home, found(share=0.02))
    assert command("publish", "latest", "--by", "Ada", "--home", home.root)[0] == 0
    assert (tmp_path / "elsewhere" / "latest.json").exists()
    assert not (home.root / "rule_sets").exists()
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "hush-hush"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("ROUTING_PIPELINE_PUBLISH", "s3://bucket/rules")
    code, _, err = command("approve", ID, "--by", "Ada", "--home", home.root)
    assert (code, "hush-hush" in err, len(err.strip().splitlines())) == (4, False, 1), err


# In the UI


@dg.asset
def routing_rules() -> RoutingRules:
    """Rules as the job finds them; their scope is that of a run that began before."""
    return found()


def materialised(home: Home, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    home.runs.begin("before", "0123456789abcdef")
    resource = HomeResource(root=str(home.root))
    return dg.materialize(
        [routing_rules, routing_rule_set, significant_changes_are_approved],
        resources={"home": resource, "io_manager": ResultsIOManager(root=resource.root)},
        instance=instance,
    )


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def test_a_significant_change_waits_in_the_ui_and_is_approved_there(home: Home) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        waiting = check_of(materialised(home, instance))
        assert (waiting.passed, waiting.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert f"routing-pipeline approve {ID} --by NAME" in (waiting.description or "")
        assert "launch the job approve_rule_set" in (waiting.description or "")
        resources = {"home": HomeResource(root=str(home.root))}
        config = waiting.metadata["configuration of approve_rule_set"].data
        config["ops"]["approve"]["config"]["by"] = "Ada"
        done = deciding.approve_rule_set.execute_in_process(run_config=config, resources=resources, instance=instance)
        assert done.success
        told = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(routing_rule_set.key, deciding.CHECK), limit=1
        )[0].event
        assert told is not None
        assert told.dagster_event is not None
        assert told.dagster_event.asset_check_evaluation_data.passed, "the check follows at once"
        again = materialised(home, instance)
        assert check_of(again).passed
        assert again.output_for_node("routing_rule_set").status == "approved"
        published = deciding.publish_rule_set.execute_in_process(
            run_config={"ops": {"publish": {"config": {"rule_set_id": ID, "by": "Grace"}}}}, resources=resources, instance=instance
        )
        assert published.success
        assert materialised(home, instance).output_for_node("routing_rule_set").status == "published"
        back = deciding.roll_back_rule_set.execute_in_process(
            run_config={"ops": {"roll_back": {"config": {"by": "Ada", "because": "quality fell"}}}}, resources=resources, instance=instance
        )
        assert back.success
        assert not check_of(materialised(home, instance)).passed, "what was rolled back needs an approval again"


def test_an_illegal_move_fails_its_run_and_says_why(home: Home) -> None:
    recorded(home, found())
    with dg.DagsterInstance.ephemeral() as instance:
        done = deciding.publish_rule_set.execute_in_process(
            run_config={"ops": {"publish": {"config": {"rule_set_id": ID, "by": "Ada"}}}},
            resources={"home": HomeResource(root=str(home.root))},
            instance=instance,
            raise_on_error=False,
        )
        assert not done.success
        (failure,) = [event for event in done.all_events if event.is_step_failure]
        assert "waits for approval" in str(failure.step_failure_data.error)
