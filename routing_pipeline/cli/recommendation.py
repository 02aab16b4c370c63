"""The command for people who answer recommendations.

Belongs here: accept, dismiss, ticket and list. Does not belong here: the record (`recommendation.answers`), approving rule sets (`decide`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from routing_pipeline.cli.help import DECIDE
from routing_pipeline.cli.inputs import open_home
from routing_pipeline.cli.options import AsJson, Root, command
from routing_pipeline.cli.output import show
from routing_pipeline.errors import UnusableInputError, did_you_mean

if TYPE_CHECKING:
    from routing_pipeline.recommendation.answers import Answer
    from routing_pipeline.recommendation.plan_item import PlanItem
    from routing_pipeline.report.model import Report

ACTIONS = ("list", "accept", "dismiss", "ticket")


@command('recommendation dismiss collect --because "planned"', group=DECIDE)
def recommendation(
    action: Annotated[str, typer.Argument(help="list, accept, dismiss or ticket", show_default=False)],
    item: Annotated[str, typer.Argument(help="Id of a recommendation of the newest report; not for list", show_default=False)] = "",
    by: Annotated[str, typer.Option("--by", help="Who says so")] = "",
    because: Annotated[str, typer.Option("--because", help="Why; needed to dismiss")] = "",
    home: Root = None,
    as_json: AsJson = False,
) -> None:
    """Say what becomes of a recommendation, or print it as a ticket; the next report shows it."""
    if action not in ACTIONS:
        raise UnusableInputError(
            f"{action[:60]}: there is no such action{did_you_mean(action, ACTIONS)}; the actions are {', '.join(ACTIONS)}"
        )
    if action == "list" and (item or by or because):
        raise UnusableInputError("recommendation list shows all of them, so it takes no id and neither --by nor --because")
    if action == "dismiss" and not because.strip():
        raise UnusableInputError("say why with --because; whoever reads the next report sees the reason")
    opened = open_home(home)
    from routing_pipeline.recommendation.answers import answer, answers_to, ticket
    from routing_pipeline.report.rebuilding import find_run, report_of

    report = report_of(find_run(opened.runs, None))
    if action == "list":
        given: dict[str, Answer] = {each.id: each for each in answers_to(opened.coordination, report.optimization_plan)}
        listed = [{"id": each.id, "title": each.title, "answer": _as_json(given.get(each.id))} for each in report.optimization_plan.items]
        lines = (f"{each.id}  {each.title}  {_said(given.get(each.id))}" for each in report.optimization_plan.items)
        show(json.dumps(listed, indent=1, ensure_ascii=False), lines, as_json=as_json)
        return
    found = _found(report, item)
    state = {"accept": "accepted", "dismiss": "dismissed", "ticket": "ticket"}[action]
    made = answer(opened.coordination, found, state, by=by, because=because)  # type: ignore[arg-type]  # one of its three
    show(made.model_dump_json(indent=1), _lines(made, found, ticket(found, f"report {report.run.run_id}")), as_json=as_json)


def _found(report: Report, item: str) -> PlanItem:
    items = {each.id: each for each in report.optimization_plan.items}
    if item not in items:
        what = f"{item[:60]}: no such recommendation in the newest report{did_you_mean(item, items)}" if item else "name a recommendation"
        raise UnusableInputError(f"{what}; the newest report has {', '.join(items) or 'none'}")
    return items[item]


def _lines(made: Answer, item: PlanItem, ticket: str) -> Iterator[str]:
    if made.state == "ticket":
        yield ticket
    else:
        yield f"{item.id}: {_said(made)}. The next report shows it."


def _as_json(made: Answer | None) -> object:
    return None if made is None else made.model_dump(mode="json")


def _said(made: Answer | None) -> str:
    if made is None:
        return "open"
    by = f" by {made.by}" if made.by else ""
    return f"{'a ticket' if made.state == 'ticket' else made.state}{by}{f' ({made.because})' if made.because else ''}"
