"""The command that takes a published rule set into its gateway step by step, and out of it.

Belongs here: `rollout` and what it prints. Does not belong here: what may come next and what is written (`gateways.rollout`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from routing_pipeline import suggested
from routing_pipeline.cli import completion
from routing_pipeline.cli.help import DECIDE
from routing_pipeline.cli.inputs import open_record
from routing_pipeline.cli.options import CONFIG, AsJson, Root, command
from routing_pipeline.cli.output import show
from routing_pipeline.errors import UnusableInputError, did_you_mean

if TYPE_CHECKING:
    from routing_pipeline.gateways.rollout import Rollout, RolloutStatus
    from routing_pipeline.recommendation.canary import CanaryLook
    from routing_pipeline.storage.home import Home

ACTIONS = ("status", "advance", "hold", "rollback")


@command('rollout advance --by "Ada Lovelace" --config routing.toml', group=DECIDE)
def rollout(
    action: Annotated[str, typer.Argument(help="status, advance, hold or rollback", show_default=False, autocompletion=completion.ROLLOUT)],
    by: Annotated[str, typer.Option("--by", help="Who decides this; not for status")] = "",
    because: Annotated[str, typer.Option("--because", help="Why; needed to go on against what was seen")] = "",
    home: Root = None,
    config: Annotated[Path | None, typer.Option("--config", envvar=CONFIG, help="TOML: [rollout], [publishing], models")] = None,
    as_json: AsJson = False,
) -> None:
    """Take what is live to 1, 5, 25, 50, 100 % of the sessions. Each step writes the gateway's configuration; canary is held against control."""
    if action not in ACTIONS:
        raise UnusableInputError(
            f"{action[:60]}: there is no such action{did_you_mean(action, ACTIONS)}; the actions are {', '.join(ACTIONS)}"
        )
    if action == "status" and (by or because):
        raise UnusableInputError("rollout status decides nothing, so it takes neither --by nor --because")
    from routing_pipeline.gateways.rollout import Rollout
    from routing_pipeline.gateways.rollout_settings import read_rollout

    settings = read_rollout(config)
    opened, record = open_record(home, config)
    found = Rollout(opened, record, settings, config)
    look = _look(opened, found, config)
    written: tuple[str, ...] = ()
    if action != "status":
        decide = {"advance": found.advance, "hold": found.hold, "rollback": found.roll_back}[action]
        decide(by, because, look)
        written = found.written
    status = found.status(look, written=written)
    show(status.model_dump_json(indent=1), _lines(status, _step(status, home, config)), as_json=as_json)


def _look(home: Home, found: Rollout, config: Path | None) -> CanaryLook | None:
    live = found.live()
    if live is None or not live[1].steps:
        return None
    from routing_pipeline.gateways.rollout_looks import look_at
    from routing_pipeline.parameters import read_parameters
    from routing_pipeline.window.engine import open_engine

    with open_engine("duckdb", spill_to=home.scratch / "spill") as engine:
        return look_at(home, engine, read_parameters(config), *live, trust_proof=found.settings.trust_proof)


def _step(status: RolloutStatus, home: Path | None, config: Path | None) -> str | None:
    """The command that does what comes next, where a person has to."""
    given = (None if each is None else str(each) for each in (home, config))
    if status.rule_set_id is None:
        return suggested.here("routing-pipeline status", *given)
    action = {"advance": "advance", "roll_back": "rollback"}.get(status.next)
    return None if action is None or status.automatic else suggested.here(f"routing-pipeline rollout {action} --by NAME", *given)


def _lines(status: RolloutStatus, step: str | None) -> Iterator[str]:
    from routing_pipeline.gateways.rollout_decision import in_words
    from routing_pipeline.text import counted, percent

    if status.rule_set_id is None:
        yield "No rule set is live."
    else:
        yield f"{status.rule_set_id}: {percent(status.share)} of the sessions follow it" + (" (held)." if status.is_held else ".")
    if status.look is not None:
        yield (
            f"canary {counted(status.look.canary_requests, 'request')}, control {counted(status.look.control_requests, 'request')}; "
            f"the rules decide {percent(status.look.share_of_requests)} of all"
        )
        yield from (f"  {each.standing}: {in_words(each)}" for each in status.look.guardrails)
    yield from status.not_in_force
    yield f"next: {status.next.replace('_', ' ')} ({status.because})" + ("" if step is None else f": {step}")
    if not status.automatic:
        yield "Nothing is done automatically: [rollout] automatic is false."
    yield from status.notes
    yield from (f"written: {path}" for path in status.written)
