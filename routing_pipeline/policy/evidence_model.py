"""What the logs can tell about choices not made: the result of gathering evidence.

Belongs here: the shape of the evidence that analyses, recommendations and the report read. Does not belong here: how it
is computed (`policy.evidence`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import Field

from routing_pipeline.estimates import Estimate, Measured, Result, quantity
from routing_pipeline.feasibility.feasible import ModelFeasibility
from routing_pipeline.policy.score_account import ScoreAccount
from routing_pipeline.rules.model import Grade, Outcomes, Unit, When
from routing_pipeline.text import LogName


class UnknownPart(Result):
    """A part of today's traffic of which an outcome is not known: it is part of no mean, and left as it is.

    Named by its model, its task type, both, or its team; the others are null.
    """

    outcome: Literal["cost", "latency", "quality"]
    model: LogName | None = None
    task_type: LogName | None = None
    team: LogName | None = Field(default=None, description="Empty: requests without a team")
    share: float = quantity("Of all requests; of all answers, where quality is not known", "0..1")
    observed: int = quantity("Of them, those of which the outcome is known all the same", "requests")
    of: int = quantity("How many there are", "requests")


class TodayEvidence(Result):
    """Today's means, each of the part of the traffic that its outcome is known of."""

    cost_usd: Measured = quantity("Per request whose cost is known, all attempts", "USD")
    quality: Measured = quantity("Of answers whose models and teams are scored, corrected for which of them were", "0..1")
    latency_ms: Measured = quantity("Mean, of requests whose latency is logged", "ms")
    success: Measured = quantity("Share of requests that end well", "0..1")
    cost_share: float = quantity("Share of requests that the cost speaks of", "0..1")
    quality_share: float = quantity("Share of answers that the quality speaks of", "0..1")
    latency_share: float = quantity("Share of requests that the latency speaks of", "0..1")

    @property
    def outcomes(self) -> Outcomes:
        """Per request, as rules promise theirs: the one baseline that they are compared with."""
        return Outcomes(cost_usd=self.cost_usd, quality=self.quality, latency_ms=self.latency_ms)


class HalfEvidence(Result):
    """Changes against today's routing of the same requests, on one half of the sessions."""

    cost_change_usd: Measured = quantity("Per request", "USD")
    quality_change: Measured = quantity("Of successful requests", "0..1")
    latency_change_ms: Measured = quantity("Per request", "ms")


class ArmEvidence(Result):
    """What sending all requests of one segment to one model would have given (doubly robust, session-clustered)."""

    model: LogName
    requests: int = quantity("Requests of the segment that went to this model first", "requests")
    labelled: int = quantity("Of them, successful and with a quality", "requests")
    share: float = quantity("Share of the segment's requests that went to it", "0..1")
    effective_sample_size: float = quantity("(sum of weights)^2 / sum of squared weights", "requests")
    min_propensity: float = quantity("Smallest probability of this model over the segment's cells", "0..1")
    supported: bool = Field(description="Seen often enough in every part of the segment to say anything")
    cost_usd: Measured = quantity("Per request, all attempts", "USD")
    quality: Measured = quantity("Of successful requests", "0..1")
    latency_ms: Measured = quantity("Mean, per request", "ms")
    success: Measured = quantity("Share of requests that end well", "0..1")
    cost_change_usd: Measured = quantity("Against today's routing of the same requests, per request", "USD")
    quality_change: Measured = quantity("Against today's routing of the same requests", "0..1")
    latency_change_ms: Measured = quantity("Against today's routing of the same requests", "ms")
    learnt: HalfEvidence | None = Field(
        default=None,
        description="The changes on the half of the sessions on which a choice may be made; null where unsupported, and of whole tasks",
    )
    held_out: HalfEvidence | None = Field(
        default=None, description="The changes on the other half: what a choice made on the first half is measured on"
    )


class SegmentEvidence(Result):
    """One kind of request: how it is routed today and what each model would have given."""

    id: str
    label: str = Field(description="For readers, e.g. `code, complexity 0.5 to 0.8`")
    task_type: LogName
    when: When
    requests: int
    labelled: int
    share: float = quantity("Share of the window's final requests", "0..1")
    cost_usd: Measured = quantity("Today, per request", "USD")
    quality: Measured = quantity("Today, of successful requests, corrected for which were labelled", "0..1")
    quality_share: float = quantity(
        "Share of its successful requests that today's quality speaks of; the rest went to models that are not scored", "0..1", default=1.0
    )
    latency_ms: Measured = quantity("Today, mean", "ms")
    success: Measured = quantity("Today", "0..1")
    arms: tuple[ArmEvidence, ...]


class CarriedOver(Result):
    """Whether the choice for one request changes the later requests of its session (`policy.carry_over`)."""

    verdict: Literal["nothing", "something", "cannot tell"]
    requests: Estimate | None = Field(
        default=None, description="Later requests that a model adds to a choice, against the commonest one: the largest that the logs allow"
    )
    size: Estimate | None = Field(default=None, description="The same for the tokens of later requests, in requests of mean size")
    told: str = Field(description="In words")


class SessionCache(Result):
    """What providers' prompt caches save today, and what of it hangs on a session staying with its model (`policy.prompt_caches`)."""

    verdict: Literal["nothing", "something", "cannot tell"] = Field(
        description="Whether what a call costs depends on which model served its session before"
    )
    saved_usd: float | None = quantity(
        "What cached tokens cost less than fresh ones, over the requests that this rests on; null where their price is not known", "USD"
    )
    saved_share: float | None = quantity("The same of what these calls would cost without a cache", "0..1")
    lost_by_a_move: float | None = quantity(
        "Share of spend that calls save because the model that answers served their session before: what moving single requests loses",
        "0..1",
    )
    told: str = Field(description="In words")


class SessionEvidence(Result):
    """What the sessions of a window are like, and what that allows."""

    sessions: int = quantity("Requests without one count as their own", "sessions")
    calls: Measured = quantity("Requests of a session, on average", "requests")
    logged_share: float = quantity("Share of requests that carry a session", "0..1")
    switching_share: float = quantity("Share of the sessions of several requests whose requests go to more than one model", "0..1")
    cached_share: float | None = quantity(
        "Share of prompt tokens that providers' caches served, where the log says; null where it does not", "0..1", default=None
    )
    quality_of_a_session: Literal["mean of its scores", "last score"]
    carried_over: CarriedOver | None = Field(default=None, description="Null where one model serves a session")
    cache: SessionCache | None = Field(default=None, description="Null where no cached tokens are logged")
    told: str = Field(description="How sessions are counted, in words")

    @property
    def unpriced_cache(self) -> str | None:
        """Why no cost of other routing can be told where requests are decided one by one; None where one can, or sessions are decided."""
        if self.carried_over is None or self.cache is None or self.cache.verdict != "cannot tell":
            return None
        return self.cache.told

    @property
    def forbids(self) -> str | None:
        """Why no rule per request may be offered; None where one may."""
        if self.carried_over is None or self.carried_over.verdict != "something":
            return self.unpriced_cache
        return f"{self.carried_over.told} What a rule per request would do to a session cannot be told; let one model serve a session"


class PropensityCheck(Result):
    """Whether logged propensities match what happened: observed share against mean logged propensity, by model."""

    model: LogName
    observed_share: float
    mean_propensity: float
    matches: bool


class SteeringTest(Result):
    """Whether the router's choice depends on a logged column beside what the evidence corrects for."""

    column: str = Field(description="As readers know it, e.g. team, hour of day")
    values: int = quantity("Values that were told apart", "values")
    statistic: float = quantity(
        "Dependence of the choice on the column within task and level, over what chance gives; 1 where there is none", "1"
    )
    p_value: float = quantity(
        "Chance of as much in any of the tested columns where none steers, by random signs of whole clusters of sessions", "0..1"
    )
    spread: float = quantity("Typical relative difference of a model's share between values of the column, beyond chance", "1")
    verdict: Literal["no sign", "slight", "corrected for", "steers"] = Field(
        description="slight: it shows, and is too little to matter; corrected for: it steers and is part of the context; steers: it is not"
    )


class AuditedModel(Result):
    """One model's quality as all traffic tells it, and as those requests do whose probability is known."""

    model: LogName
    requests: int = quantity("Requests sent to it whose probability is known, where both can be told", "requests")
    share: float = quantity("Share of all requests that both estimates are of", "0..1")
    quality_of_all: Measured = quantity("By all traffic: of successful requests, had all gone to this model", "0..1")
    quality_of_known: Measured = quantity("The same by the requests alone whose probability is known", "0..1")
    difference: Estimate = quantity("By all traffic less by those alone: above 0 where the logs flatter the model", "0..1")
    p_value: float = quantity("Chance of as large a difference of any model where nothing hidden steers", "0..1")


class ConfoundingAudit(Result):
    """Whether the requests whose probability is known tell by themselves what all traffic tells (`policy.audit`)."""

    share: float = quantity("Share of the requests that carry the probability of their choice", "0..1")
    requests: int = quantity("How many these are", "requests")
    models: tuple[AuditedModel, ...] = Field(description="Those of which both can be told, the difference least likely by chance first")
    verdict: Literal["agree", "differ", "cannot tell"] = Field(
        description="differ: something hidden steers the router, and these requests alone decide"
    )
    told: str = Field(description="In words")


class UnusualHours(Result):
    """A stretch of the window in which a model did worse, or cost more, than in the rest of it."""

    model: LogName
    what: Literal["failures", "quality", "spend"]
    start: datetime = Field(description="UTC")
    end: datetime = Field(description="UTC, exclusive")
    size: float = quantity("failures: more than usual, of requests; quality: fall of the mean; spend: more than usual, relative", "1")


class RoutingEvidence(Result):
    """The sufficient statistics of the window, summed up for readers; the cells themselves lie in `cells_uri`."""

    grade: Grade
    grade_reason: str
    requests: int
    labelled: int = quantity("Units with a quality, of those that end well", "units")
    clusters: int
    unit: Unit = Field(
        default="request",
        description="What is promised about: `session` where sessions are logged that hold more than one request, and the logs tell what "
        "becomes of the same sessions; else `request`, per call only",
    )
    per: Unit = Field(default="request", description="What a decision is about: each request, or a session at its first request")
    by_request: tuple[LogName, ...] = Field(
        default=(), description="Task types whose requests are each decided by themselves, where decisions about the others are per session"
    )
    sessions: SessionEvidence | None = Field(default=None, description="Null where sessions are not logged, or hold one request each")
    propensities: Literal["logged", "estimated"]
    propensity_check: tuple[PropensityCheck, ...] = ()
    steering: tuple[SteeringTest, ...] = Field(
        default=(), description="Logged columns that were tested for steering the router, strongest first"
    )
    audit: ConfoundingAudit | None = Field(
        default=None,
        description="Estimates from the requests alone whose probability is known, against those from all; null where none is known, or all are",
    )
    complexity: Literal["logged", "derived", "absent"] = Field(
        description="`derived` complexity may not appear in a rule; prompt_tokens takes its place"
    )
    tasks: tuple[SegmentEvidence, ...] = Field(description="One entry per task type")
    segments: tuple[SegmentEvidence, ...] = Field(description="Task types cut by complexity (else by prompt length)")
    unsupported_share: float = quantity("Share of (segment, model) pairs of which the logs cannot tell, by traffic", "0..1")
    today: TodayEvidence | None = Field(default=None, description="Null in reports of earlier versions, and where nothing can be estimated")
    unknown: tuple[UnknownPart, ...] = Field(default=(), description="Parts of the traffic without an outcome, largest first")
    unusual: tuple[UnusualHours, ...] = Field(default=(), description="Hours unlike the rest; limits are held with and without them")
    scores: ScoreAccount | None = Field(
        default=None, description="How the window's scores were counted; null in reports of earlier versions, and without any request"
    )
    feasibility: tuple[ModelFeasibility, ...] = Field(
        default=(), description="What of the window's requests each model could not have served; empty where nothing shows what they need"
    )
    assumptions: tuple[str, ...] = Field(default=(), description="What was taken for granted because the logs do not say")
    warnings: tuple[str, ...] = ()
    refusal: str | None = Field(default=None, description="Why nothing at all can be estimated; null when something can")
    cells_uri: str | None = Field(default=None, description="Parquet of the cells")
    sampled: float = quantity("Share of the window's final requests that it rests on, in whole sessions; 1: all", "0..1", default=1.0)

    def per_of(self, task_types: Iterable[str] | None) -> Unit:
        """What a rule for these task types decides about; None: for all."""
        return "request" if task_types and set(task_types) <= set(self.by_request) else self.per

    @property
    def traffic(self) -> float:
        """Final requests of the whole window, of which `requests` are those that this rests on."""
        return self.requests / self.sampled

    def over_all(self) -> RoutingEvidence:
        """The same with requests counted as in the whole window: exactly in all, as the sample has it in each segment."""
        if self.sampled == 1.0:
            return self

        def scaled(segment: SegmentEvidence) -> SegmentEvidence:
            arms = tuple(arm.model_copy(update={"requests": round(arm.requests / self.sampled)}) for arm in segment.arms)
            return segment.model_copy(update={"requests": round(segment.requests / self.sampled), "arms": arms})

        whole = {"requests": round(self.traffic), "tasks": tuple(map(scaled, self.tasks)), "segments": tuple(map(scaled, self.segments))}
        feasibility = tuple(each.scaled(1 / self.sampled) for each in self.feasibility)
        return self.model_copy(update={**whole, "feasibility": feasibility, "sampled": 1.0})
