"""What became of the feedback, in sentences: the same on the terminal, in the summary, in the checks and in answers to agents.

Belongs here: wording `FeedbackTotals`. Does not belong here: counting (`ingest.feedback_totals`), how much may be refused
(`expectations`).

Names of scores, of objects and of ids come from files: `named` says how they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from routing_pipeline import text
from routing_pipeline.ingest.feedback_totals import FeedbackTotals, OutsideScale, UnmatchedExample
from routing_pipeline.lake.totals import QuarantineReason
from routing_pipeline.schema import ScoreSource
from routing_pipeline.window.scope import AnalysisScope

Named = Callable[[str], str]
LONGEST_NAME = 80
MOST_REASONS = 2
MOST_NAMES = 3
KEYED = "Give each score the id that the gateway logs."


def quoted(name: str) -> str:
    """A name on one line, between quotation marks."""
    return f"'{text.name(name, LONGEST_NAME)}'"


def lines(totals: FeedbackTotals | None, quality_name: str | None = None, named: Named = quoted) -> tuple[str, ...]:
    """What a reader should know of the feedback, most important first; nothing where none was ever given.

    Args:
        totals: Of the home; None in reports of earlier versions.
        quality_name: What the score is called that counts as quality, where no answer has one; None leaves that out.
        named: How a name is shown.
    """
    if totals is None or not totals.records:
        return ()
    return (f"Feedback: {counts(totals)}.", *by_source(totals), *_troubles(totals, quality_name, named))


def of_window(totals: FeedbackTotals | None, scope: AnalysisScope) -> tuple[str, ...]:
    """The same beside a window; what the quality is called matters where no answer has one."""
    return lines(totals, None if scope.labelled else scope.parameters.quality_feedback)


def in_short(totals: FeedbackTotals | None, scope: AnalysisScope, named: Named = quoted) -> Iterator[str]:
    """The same for the summary, where every word counts: what was read, the first reason for refusal, and a loss with its example."""
    if totals is None or not totals.records:
        return
    if totals.matched == totals.records:
        yield f"Feedback: all {_scores(totals.records)} match a request."
        return
    why = ""
    if totals.reasons:
        first = totals.reasons[0]
        why = f" ({first.reason.partition(';')[0].rstrip('.')}: {where(first, named)})"
    yield (
        f"Feedback: {_scores(totals.records)} read, {text.count(totals.matched)} matched, {text.count(totals.unmatched)} unmatched, "
        f"{text.count(totals.quarantined)} refused{why}."
    )
    if totals.is_lost:
        yield _lost_in_short(totals, named)
    elif not scope.labelled:
        yield from unnamed(totals, scope.parameters.quality_feedback, named)


def _lost_in_short(totals: FeedbackTotals, named: Named) -> str:
    of = f"{text.count(totals.unmatched_within)} of {_scores(totals.scored_within)} from the logged period match no request"
    told = f"None of the {_scores(totals.unmatched)} matches a request" if totals.matched == 0 else of
    example = totals.example
    return f"{told}." if example is None else f"{told}: one names {named(example.score_key)}, the logs have {named(example.log_key)}."


def _troubles(totals: FeedbackTotals, quality_name: str | None, named: Named) -> Iterator[str]:
    if totals.quarantined:
        yield f"Refused: {refusals(totals, named)}."
    yield from scales(totals, named)
    if totals.is_lost:
        yield from (*lost(totals, named), KEYED)
    if quality_name is not None:
        yield from unnamed(totals, quality_name, named)


def counts(totals: FeedbackTotals) -> str:
    """Where the scores went, as a clause."""
    known = [
        f"{text.count(totals.matched)} matched to a request",
        f"{text.count(totals.unmatched)} unmatched",
        f"{text.count(totals.quarantined)} refused",
        *([f"{text.count(totals.duplicates)} repeated"] if totals.duplicates else []),
    ]
    return f"{_scores(totals.records)} read, {', '.join(known)}"


WORDS: dict[ScoreSource, str] = {"judge": "a judge", "user": "users", "check": "checks", "eval": "evaluations"}


def by_source(totals: FeedbackTotals) -> Iterator[str]:
    """Who gave how many scores, where there is more than one kind of source."""
    found = totals.by_source
    if len(found) > 1:
        yield f"Scores by source: {', '.join(f'{text.count(n)} by {WORDS[source]}' for source, n in found.items())}."


def refusals(totals: FeedbackTotals, named: Named = quoted) -> str:
    """The most frequent reasons with how many and where one stands, as a clause."""
    told = [f"{each.reason.rstrip('.')} ({text.count(each.count)}, as in {where(each, named)})" for each in totals.reasons[:MOST_REASONS]]
    left = len(totals.reasons) - MOST_REASONS
    return "; ".join([*told, *([f"{left} more reason{'s' if left > 1 else ''}"] if left > 0 else [])])


def where(refused: QuarantineReason, named: Named = quoted) -> str:
    """An object, and the line in it."""
    return named(refused.object) + ("" if refused.line is None else f" line {refused.line:,}")


def scales(totals: FeedbackTotals, named: Named = quoted) -> Iterator[str]:
    """By name, that scores lie outside their scale, and which one was likely meant."""
    for each in totals.names:
        if each.outside_scale is not None:
            yield _scale(each.outside_scale, named(each.name))


def _scale(outside: OutsideScale, name: str) -> str:
    declared, seen = (f"{low:g} to {high:g}" for low, high in ((outside.scale_min, outside.scale_max), (outside.lowest, outside.highest)))
    told = (
        f"{_scores(outside.count)} called {name} lie{'s' if outside.count == 1 else ''} outside the scale {declared}: they run from {seen}"
    )
    if outside.likely_min is None or outside.likely_max is None:
        return f"{told}."
    low, high = f"{outside.likely_min:g}", f"{outside.likely_max:g}"
    where_to_say = (
        f"scale_min {low} and scale_max {high} in the file" if outside.has_scale else f"{name} = [{low}, {high}] under [scales] in --config"
    )
    return f"{told}. Did you mean the scale {low} to {high}, that is {where_to_say}?"


def lost(totals: FeedbackTotals, named: Named = quoted) -> Iterator[str]:
    """That scores find no request, with an example of both keys."""
    if totals.matched == 0:
        yield f"None of the {_scores(totals.unmatched)} matches a request in the logs."
    else:
        of = f"{text.count(totals.unmatched_within)} of {text.count(totals.scored_within)}"
        yield f"More than half of the scores from the logged period match no request: {of}."
    if totals.example is None:
        yield "The lake has no requests yet."
        return
    yield _example(totals.example, named)


_CALLED = {"request_id": "request", "attempt_id": "attempt", "session_id": "session"}


def _example(example: UnmatchedExample, named: Named) -> str:
    score, log = named(example.score_key), named(example.log_key)
    asked, found = _CALLED[example.score_column], _CALLED[example.log_column]
    if not example.is_alike:
        return f"For example, a score names the {asked} {score}; {found}s in the logs are called like {log}."
    if asked == found:
        return f"For example, a score names the {asked} {score}; the logs have the {found} {log}."
    return f"For example, a score gives {score} as its {example.score_column}; in the logs {log} is in the column {example.log_column}."


def unnamed(totals: FeedbackTotals, quality_name: str, named: Named = quoted) -> Iterator[str]:
    """That no score is called as the quality of an answer is; nothing where there may be one."""
    kept = [each.name for each in totals.names if each.ingested]
    if not kept or quality_name in kept or not totals.ingested:
        return
    called = ", ".join(named(each) for each in kept[:MOST_NAMES]) + (
        f" and {len(kept) - MOST_NAMES} more" if len(kept) > MOST_NAMES else ""
    )
    yield f"No score is called {named(quality_name)}, so none counts as the quality of an answer; they are called {called}. Name the right one with quality_feedback in --config."


def _scores(count: int) -> str:
    return f"{text.count(count)} score{'' if count == 1 else 's'}"
