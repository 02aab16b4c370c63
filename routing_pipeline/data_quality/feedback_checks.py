"""Claims about the feedback as a whole: was every score accounted for, and were few enough refused, in all and by name?

Belongs here: evaluating `expectations.FEEDBACK` against the feedback ledger's totals. Does not belong here: the limits
(`expectations`), which of a window's scores find their request (`baseline_checks`).
"""

from __future__ import annotations

from routing_pipeline import text as wording
from routing_pipeline.data_quality import feedback_lines
from routing_pipeline.data_quality.expectations import FEEDBACK, CheckItem, CheckResult, Expectation
from routing_pipeline.ingest.feedback_totals import FeedbackTotals, ScoresOfName

LEAST_SCORES = 20
"""Of fewer scores of a name, nobody can say that most were lost."""
WHAT_TO_DO = (
    "What to do: fix the files and upload them again, or declare a missing scale under [scales] in --config, or leave one out "
    "permanently (routing-pipeline forget --object OBJECT); then run again"
)


def feedback_checks(totals: FeedbackTotals) -> tuple[CheckResult, ...]:
    """`expectations.FEEDBACK`, in its order."""
    identity, refused, by_name = FEEDBACK
    if not totals.records:
        first, *others = (each.result("not_checked", "no feedback was given") for each in FEEDBACK)
        return first, *others
    return _accounted(identity, totals), _refused(refused, totals), _by_name(by_name, totals)


def _accounted(expectation: Expectation, totals: FeedbackTotals) -> CheckResult:
    accounted = totals.ingested + totals.quarantined + totals.duplicates
    text = f"{totals.records:,} scores = {totals.ingested:,} accepted + {totals.quarantined:,} refused + {totals.duplicates:,} repeated"
    is_equal = accounted == totals.records
    numbers = {"scores": float(totals.records), "accounted_scores": float(accounted)}
    return expectation.result("passed" if is_equal else "failed", text if is_equal else f"does not hold: {text}", numbers)


def _refused(expectation: Expectation, totals: FeedbackTotals) -> CheckResult:
    share = totals.refused_share
    observed = f"{totals.quarantined - totals.in_words:,} of {totals.records - totals.in_words:,} scores, {wording.percent(share, 2)}"
    items = [CheckItem(name=each.reason, observed=f"{each.count:,}, as in {feedback_lines.where(each)}") for each in totals.reasons]
    is_met = share <= expectation.limit
    return _result(expectation, is_met, observed, {"refused_share": share}, items if totals.quarantined else [], totals)


def _by_name(expectation: Expectation, totals: FeedbackTotals) -> CheckResult:
    lost = [each for each in totals.names if _lost_share(each, totals) > expectation.limit and each.ingested]
    lost = [each for each in lost if each.ingested + each.quarantined >= LEAST_SCORES]
    items = [CheckItem(name=each.name, observed=f"{each.quarantined:,} refused, {each.ingested:,} accepted") for each in lost]
    told = "; ".join(f"{feedback_lines.quoted(each.name)}: {item.observed}" for each, item in zip(lost, items, strict=True))
    worst = max((_lost_share(each, totals) for each in totals.names), default=0.0)
    return _result(expectation, not lost, told or f"{len(totals.names):,} names of scores", {"largest_refused_share": worst}, items, totals)


def _lost_share(name: ScoresOfName, totals: FeedbackTotals) -> float:
    """Share of a name's scores that were refused; what was given twice is taken to be spread as what was kept is."""
    given = name.ingested * (totals.ingested + totals.duplicates) / totals.ingested if totals.ingested else 0.0
    return name.quarantined / (name.quarantined + given) if name.quarantined else 0.0


def _result(
    expectation: Expectation, is_met: bool, observed: str, numbers: dict[str, float], items: list[CheckItem], totals: FeedbackTotals
) -> CheckResult:
    if is_met:
        return expectation.result("passed", observed, numbers, items)
    why = (f"{observed}: {feedback_lines.refusals(totals)}.", *feedback_lines.scales(totals), WHAT_TO_DO)
    return expectation.result("failed", " ".join(why), numbers, items)
