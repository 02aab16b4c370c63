"""Where a home stands: what it holds, what was found last, what is proposed, approved and live, what comes next.

Belongs here: one look at record, runs and lake, and its ten lines. Does not belong here: where one rule set stands (`lifecycle`),
every report (`past_reports`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydantic import Field

from routing_pipeline import text
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.lake.table import Lake
from routing_pipeline.rules.in_words import found_as, rule_lines
from routing_pipeline.rules.lifecycle import RuleSetStatus
from routing_pipeline.rules.past_reports import PastReport, asked, finding, past_reports
from routing_pipeline.rules.record import RuleSetRecord
from routing_pipeline.storage.home import Home

RULES_SHOWN = 3


class HomeStatus(Result):
    """Where a home stands."""

    home: str
    sources: tuple[str, ...] = Field(description="Where its logs come from")
    requests: int = quantity("Rows in the lake: attempts, calls to one model", "rows")
    newest: datetime | None = Field(description="Of these rows, UTC; null while there are none")
    latest: PastReport | None = Field(description="The report that `latest` stands for; null when there is none")
    reports: int = quantity("That can be made again", "reports")
    experiments: int = quantity("Of these, asked with options of their own", "reports")
    rules: tuple[str, ...] = Field(description="What the latest report proposes, a line for each of the first rules")
    rules_proposed: int = quantity("In the latest report's proposal", "rules", default=0)
    proposed: RuleSetStatus | None = Field(description="Where the rule set of the latest report stands; null where nothing is proposed")
    approved: tuple[str, ...] = Field(description="Ids of rule sets that are approved and not published")
    live: str | None = Field(description="Id of the rule set that gateways are to follow; null: their own choice")
    live_since: str | None = Field(description="By whom and when it went live")
    next_step: str | None = Field(description="Command that comes next")


def home_status(home: Home, record: RuleSetRecord) -> HomeStatus:
    """Look; changes nothing.

    Raises:
        UnusableInputError: the record was changed by hand.
        ServiceUnavailableError: the record cannot be reached.
    """
    lake, standing, found = Lake(home), record.standing(), past_reports(home.runs, record)
    latest = next((each for each in found if each.is_latest), None)
    newest_s, live = lake.newest_s(), standing.live
    switch = standing.last_switch
    proposed: RuleSetStatus | None = None
    rules: tuple[str, ...] = ()
    if latest is not None and latest.rule_set_id is not None and latest.rules:
        known = found_as(home, latest.rule_set_id)
        proposal = record.proposal(latest.rule_set_id)
        proposed = None if proposal is None else record.status(latest.rule_set_id)
        rules = () if proposal is None else tuple(rule_lines(proposal.rule_set.rules, () if known is None else known.impacts))
    return HomeStatus(
        home=home.place,
        sources=home.sources(),
        requests=lake.totals().ingested,
        newest=None if newest_s is None else text.from_seconds(newest_s),
        latest=latest,
        reports=len(found),
        experiments=sum(each.kind == "experiment" for each in found),
        rules=rules,
        rules_proposed=0 if latest is None else latest.rules,
        proposed=proposed,
        approved=tuple(sorted(each for each, state in standing.states.items() if state == "approved")),
        live=live,
        live_since=None if switch is None or live is None else f"{switch.by}, {text.moment(switch.at)}",
        next_step=_next(newest_s, latest, proposed),
    )


def _next(newest_s: float | None, latest: PastReport | None, proposed: RuleSetStatus | None) -> str | None:
    if newest_s is None:
        return "routing-pipeline run --logs URI --out report"
    # What another version found cannot be read: it is computed again from the same rows.
    if latest is None or latest.goal is None:
        return "routing-pipeline analyze --out report"
    return None if proposed is None else proposed.next_step


def status_lines(found: HomeStatus) -> Iterator[str]:
    """Ten lines for a terminal, fewer where there is less to say."""
    sources = f"logs from {text.listed(found.sources, 2)}" if found.sources else "nothing was read yet"
    yield f"home       {found.home} (lake, results and runs); {sources}"
    newest = "" if found.newest is None else f", the newest of {text.moment(found.newest)}"
    yield f"lake       {text.counted(found.requests, 'row')}{newest}"
    yield f"report     {_report(found)}"
    yield f"found      {finding(found.latest)}"
    for number, line in enumerate(found.rules[:RULES_SHOWN]):
        more = found.rules_proposed - RULES_SHOWN
        yield f"{'rules' if number == 0 else '':9}  {line}{f'; and {more} more' if number == RULES_SHOWN - 1 and more > 0 else ''}"
    yield f"proposed   {'nothing' if found.proposed is None else f'{found.proposed.rule_set_id}: {found.proposed.verdict}'}"
    yield f"approved   {text.listed(found.approved, 3) if found.approved else 'nothing that waits for publication'}"
    live = f"{found.live} ({found.live_since})"
    yield f"live       {live if found.live else 'no rule set; gateways choose by themselves'}"
    undecided = found.latest is not None and not found.latest.rules
    yield f"next       {found.next_step or ('nothing to decide; the report says what is missing' if undecided else 'nothing to do')}"


def _report(found: HomeStatus) -> str:
    if found.latest is None:
        return "none that answers this home's own question" if found.reports else "none yet"
    others = found.reports - 1
    experiments = f", {text.counted(found.experiments, 'experiment')} among them" if found.experiments else ""
    more = f"; {text.counted(others, 'other')} kept{experiments}" if others else ""
    return f"{found.latest.run_id[:8]} of {text.moment(found.latest.published)}, {asked(found.latest)}{more}"
