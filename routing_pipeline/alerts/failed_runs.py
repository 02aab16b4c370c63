"""Which jobs fail while nobody watches, and which have recovered; each reported once.

Belongs here: the decision behind the `failed_runs` sensor, and its words. Does not belong here: what Dagster remembers of runs
(`assets.outcomes`), whom to tell (`notifications`).

Only the state of each job counts, not every run on the way there: a job that failed and succeeded between two ticks has succeeded.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routing_pipeline.estimates import Result, quantity

MAX_WHY = 400


class Outcome(Result):
    """The newest run of a job that has ended for good: it will not be tried again."""

    run_id: str
    is_failure: bool
    ended_s: float = quantity("When it ended, since 1970", "s")


class RunNews(Result):
    """A job that fails, or has recovered."""

    job: str
    run_id: str = Field(description="The run that failed, or recovered")
    is_failure: bool
    ended_s: float = quantity("When that run ended, since 1970", "s")
    failing_since_s: float = quantity("When the first reported run failed, since 1970", "s")


class FailedRunsDecision(Result):
    """What to tell now."""

    news: tuple[RunNews, ...] = ()
    failing: tuple[str, ...] = Field(default=(), description="Jobs whose newest run failed")
    since_s: float | None = quantity("When the first of them failed, since 1970", "s", default=None)
    reason: str
    cursor: str = Field(description="Hand it back at the next tick")


class _Reported(BaseModel):
    """When each failing job's first failure was, seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    failing: dict[str, float] = {}


def failed_runs(outcomes: Mapping[str, Outcome | None], cursor: str | None) -> FailedRunsDecision:
    """What is news of how each job stands; None where no run of it has ended for good since anybody can remember.

    A job that is watched no longer is forgotten.
    """
    try:
        reported = _Reported.model_validate_json(cursor or "{}").failing
    except ValidationError:
        reported = {}
    news, failing = [], {}
    for job, outcome in sorted(outcomes.items()):
        since_s = reported.get(job)
        if outcome is None:
            if since_s is not None:
                failing[job] = since_s
        elif outcome.is_failure:
            failing[job] = outcome.ended_s if since_s is None else since_s
            if since_s is None:
                news.append(RunNews(job=job, failing_since_s=outcome.ended_s, **outcome.model_dump()))
        elif since_s is not None:
            news.append(RunNews(job=job, failing_since_s=since_s, **outcome.model_dump()))
    return FailedRunsDecision(
        news=tuple(news),
        failing=tuple(failing),
        since_s=min(failing.values(), default=None),
        reason=f"failing: {', '.join(failing)}" if failing else "all automatic runs succeed",
        cursor=_Reported(failing=failing).model_dump_json(),
    )


def message(news: RunNews, why: str, dagster_url: str = "") -> tuple[str, str]:
    """Title and text; `why` is an error's first line, and may hold what stood in the logs."""
    run = f"{dagster_url.rstrip('/')}/runs/{news.run_id}" if dagster_url else f"run {news.run_id}"
    if not news.is_failure:
        said = f"{news.job} succeeded at {_iso(news.ended_s)} after failing since {_iso(news.failing_since_s)}"
        return f"recovered: {news.job}", f"{said}\n{run}"
    said = f"{news.job} failed at {_iso(news.ended_s)} and will not be retried: {first_line(why)}"
    return f"run failed: {news.job}", f"{said}\n{run}\nThe next message about this job is sent when it recovers."


def first_line(text: str) -> str:
    """The first line that says something, shortened."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no reason is known")
    return line if len(line) <= MAX_WHY else f"{line[: MAX_WHY - 1]}…"


def _iso(moment_s: float) -> str:
    return f"{datetime.fromtimestamp(moment_s, UTC):%Y-%m-%dT%H:%MZ}"
