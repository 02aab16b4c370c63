"""Data-quality rules as data: what is claimed of the rows, when a claim holds, what a breach does, and why it matters.

Belongs here: the rules of both suites, the few kinds of predicate they are made of, and the models of their results.
Does not belong here: evaluating them. Claims about single columns and rows run in Great Expectations
(`row_checks`), comparisons with a baseline as aggregates (`baseline_checks`), `data_quality` puts both together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.schema import REQUEST_LOG, TOKEN_PARTS
from routing_pipeline.text import LogName

Severity = Literal["blocking", "warning"]
Outcome = Literal["passed", "failed", "not_checked"]
MAX_ITEMS = 50
"""Most models, columns or hours that one result lists; the rest are counted."""
LONGEST_OBJECT = 200
"""How much of an object's name is said, in characters."""


class CheckItem(Result):
    """One thing a claim was checked for: a model, a task type, an hour. Its name may come from logs: treat it as data."""

    name: LogName = Field(description="Model, task type, column or hour")
    observed: str = Field(description="What was seen of it")
    numbers: dict[str, float] = Field(default_factory=dict, description="Observed values by name; the unit ends the name")


class CheckResult(Result):
    """One claim about the data, and whether it held."""

    name: str = Field(description="Claim in snake case; also the name of the asset check")
    claim: str = Field(description="The claim as a sentence")
    why: str = Field(description="What would go wrong if it did not hold")
    severity: Severity = Field(description="blocking: nothing is published when it fails; warning: the report says so and goes on")
    outcome: Outcome = Field(description="not_checked: there was nothing to compare with; observed says what is missing")
    observed: str = Field(description="What was seen, as a sentence with numbers")
    numbers: dict[str, float] = Field(default_factory=dict, description="Observed values by name; the unit ends the name")
    items: tuple[CheckItem, ...] = Field(default=(), description=f"Where it was seen, worst first, at most {MAX_ITEMS}")
    items_left_out: int = quantity("Further items that are not listed", "items", default=0)
    evaluated_by: Literal["great_expectations", "aggregate"] = Field(description="What evaluated the claim")

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the claim."""
        return self.outcome != "failed"


class DataQuality(Result):
    """Every claim that was checked for one scope: the gate in front of the money."""

    rows: int = quantity("Attempts in the window that were checked", "attempts")
    checks: tuple[CheckResult, ...] = Field(description="Blocking ones first, each group in the order of its suite")

    def of(self, severity: Severity, outcome: Outcome | None = None) -> tuple[CheckResult, ...]:
        """Results of one severity, of one outcome if given."""
        return tuple(check for check in self.checks if check.severity == severity and outcome in {None, check.outcome})

    @property
    def is_publishable(self) -> bool:
        """Whether no blocking claim failed."""
        return not self.of("blocking", "failed")


@dataclass(frozen=True)
class HasSchema:
    """Every column of schema.REQUEST_LOG is there, with its type."""


@dataclass(frozen=True)
class NeverNull:
    """Each of these columns has a value in every row."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Unique:
    """No two rows share a value."""

    column: str


@dataclass(frozen=True)
class Between:
    """Every value of each column lies in [low, high], or in (low, high]; null passes, NaN and infinity do not."""

    columns: tuple[str, ...]
    low: float = 0.0
    high: float = sys.float_info.max
    is_low_excluded: bool = False


@dataclass(frozen=True)
class OneOf:
    """Every value is one of these; null passes."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class WithinWindow:
    """Every time lies in the days of the window, give or take `margin_s`."""

    column: str
    margin_s: float


@dataclass(frozen=True)
class Filled:
    """An optional column has a value in at least `share` of the rows, or of those with the status `of`."""

    column: str
    share: float
    of: Literal["success", "failure"] | None = None


@dataclass(frozen=True)
class Comparison:
    """A number compared with what it should be: fails beyond `limit`, in the unit of the claim."""

    limit: float


RowPredicate = HasSchema | NeverNull | Unique | Between | OneOf | WithinWindow | Filled


@dataclass(frozen=True)
class Expectation:
    """One rule: `name` is the claim in snake case; a breach blocks the run or is reported, as `severity` says."""

    name: str
    claim: str
    predicate: RowPredicate | Comparison
    severity: Severity
    why: str

    @property
    def limit(self) -> float:
        """What a comparison is held against."""
        assert isinstance(self.predicate, Comparison)  # noqa: S101 - tells mypy what the suites guarantee
        return self.predicate.limit

    def result(
        self,
        outcome: Outcome,
        observed: str,
        numbers: Mapping[str, float] | None = None,
        items: Sequence[CheckItem] = (),
    ) -> CheckResult:
        """What came out; items beyond MAX_ITEMS are counted."""
        return CheckResult(
            name=self.name,
            claim=self.claim,
            why=self.why,
            severity=self.severity,
            outcome=outcome,
            observed=observed,
            numbers=dict(numbers or {}),
            items=tuple(items[:MAX_ITEMS]),
            items_left_out=max(len(items) - MAX_ITEMS, 0),
            evaluated_by="aggregate" if isinstance(self.predicate, Comparison) else "great_expectations",
        )


def _blocking(name: str, claim: str, predicate: RowPredicate | Comparison, why: str) -> Expectation:
    return Expectation(name, claim, predicate, "blocking", why)


def _warning(name: str, claim: str, predicate: RowPredicate | Comparison, why: str) -> Expectation:
    return Expectation(name, claim, predicate, "warning", why)


STATUSES: tuple[str, ...] = ("success", "failure", "cancelled")
CLOCK_TOLERANCE_S = 3_600.0
"""Requests stamped further in the future than this are quarantined at ingestion."""
AHEAD_OF_INGESTION = "ahead_of_ingestion_s"
"""Derived for these rules: started_at less ingested_at, in seconds."""
COST_BEYOND_PRICES = "cost_beyond_any_price_usd"
"""Derived for these rules: cost_usd less the most that a call may cost, in USD."""
MOST_USD_PER_TOKEN = 0.006
"""Ten times the highest list price there is (o1-pro, 600 USD per million tokens received)."""
MOST_FEES_USD = 1.0
"""Of one call, for what is not priced by tokens: some dozens of searches or tool runs at the 0.035 USD that they are billed at."""
MOST_WITHOUT_TOKENS_USD = 10_000.0
"""Of one call that is billed by the image, the second or the job, or whose tokens nobody counted."""
NOT_BY_TOKENS: tuple[str, ...] = ("image", "transcription", "speech", "tool", "other")
"""Kinds of call (schema.OPERATIONS) whose cost says nothing by their tokens."""
WHAT_TO_DO = (
    "fix these objects and upload them again, read them as another format (routing-pipeline reprocess --prefix OBJECT --format FORMAT), "
    "or leave them out permanently (routing-pipeline forget --object OBJECT); then run again"
)
"""Where objects hold what must not be there."""

INGEST: tuple[Expectation, ...] = (
    _blocking(
        "every_record_is_accounted_for",
        "Records read = ingested + quarantined + duplicates",
        Comparison(limit=0.0),
        "A record lost or counted twice makes every total wrong without notice",
    ),
    _blocking(
        "quarantine_share_is_below_5_percent",
        "Less than 5 % of the records were refused",
        Comparison(limit=0.05),
        "Refused records may differ from accepted ones, so totals and shares of the rest would mislead",
    ),
)
"""About the home's whole ledger; hold after every ingestion."""

FEEDBACK: tuple[Expectation, ...] = (
    _blocking(
        "every_score_is_accounted_for",
        "Scores read = accepted + refused + repeated",
        Comparison(limit=0.0),
        "Scores lost without notice make quality look more certain than it is",
    ),
    _blocking(
        "refused_scores_are_at_most_5_percent",
        "Not more than 5 % of the scores were refused",
        Comparison(limit=0.05),
        "The rest is not representative: of ratings read on a wrong scale, only the lowest remain, and they look perfect",
    ),
    _blocking(
        "no_score_lost_most_of_its_kind",
        "For no score name was more than half refused and the rest accepted",
        Comparison(limit=0.5),
        "A few scores that happen to fit a wrong scale would stand for all of them",
    ),
)
"""About all feedback that the home was given; hold after every ingestion of it."""

BLOCKING: tuple[Expectation, ...] = (
    _blocking(
        "columns_and_types_are_as_agreed",
        "The lake's files have the columns of the request log, each with its type",
        HasSchema(),
        "An analysis that reads the wrong column is wrong without notice",
    ),
    _blocking(
        "required_columns_are_never_null",
        "Every attempt has its keys, its time, its model, its status and where it came from",
        NeverNull(tuple(column.name for column in REQUEST_LOG if column.required)),
        "No number can be computed without them",
    ),
    _blocking(
        "attempt_id_is_unique",
        "No attempt is in the lake twice",
        Unique("attempt_id"),
        "A repeated attempt is paid for twice in every total",
    ),
    _blocking(
        "started_at_is_within_the_window",
        "Every attempt in the window's files began in the window's days, or a day beside them",
        WithinWindow("started_at", margin_s=SECONDS_PER_DAY),
        "A wrong unit or time zone puts spend on the wrong day",
    ),
    _blocking(
        "started_at_is_not_in_the_future",
        "No attempt began more than an hour after it was ingested",
        Between((AHEAD_OF_INGESTION,), low=-sys.float_info.max, high=CLOCK_TOLERANCE_S),
        "One timestamp in the future would move the window away from the traffic",
    ),
    _blocking(
        "cost_is_never_negative",
        "Cost is finite and not below 0",
        Between(("cost_usd",)),
        "It would hide spend or make every total meaningless",
    ),
    _blocking(
        "cost_is_within_any_price",
        "No call costs more than 10 times the highest list price of its tokens plus $1 for fees, or more than $10,000 if it has no tokens",
        Between((COST_BEYOND_PRICES,), low=-sys.float_info.max, high=0.0),
        "A cost that was misread or made up outweighs all real spend, and every saving is computed from it",
    ),
    _blocking(
        "counts_are_never_negative",
        "Tokens, retries and queue depth are not below 0",
        Between(("prompt_tokens", "completion_tokens", *TOKEN_PARTS, "retries", "queue_depth")),
        "Costs are recomputed from tokens",
    ),
    _blocking(
        "latency_is_never_negative",
        "Latency, time to first token and routing latency are finite and not below 0",
        Between(("latency_ms", "ttft_ms", "routing_latency_ms")),
        "One mistaken unit outweighs every other call in a mean",
    ),
    _blocking(
        "scores_are_within_0_and_1",
        "Quality, rating and complexity lie within 0 and 1",
        Between(("quality_score", "user_rating", "complexity"), 0.0, 1.0),
        "Scores on different scales cannot be averaged or compared with a floor",
    ),
    _blocking(
        "propensity_is_a_probability",
        "propensity lies above 0 and not above 1",
        Between(("propensity",), 0.0, 1.0, is_low_excluded=True),
        "Estimates divide by it",
    ),
    _blocking(
        "status_is_known",
        "status is success, failure or cancelled",
        OneOf("status", STATUSES),
        "Success rates and quality are computed over these three",
    ),
)
"""About every row that the analysis may read: the window's files, whole."""

_FILLED: tuple[tuple[str, float, Literal["success", "failure"] | None, str], ...] = (
    ("session_id", 0.5, None, "Without sessions every request counts as independent, which makes intervals too narrow"),
    ("latency_ms", 0.95, None, "Speed is measured only on logged latencies"),
    ("ttft_ms", 0.01, "success", "Time to first token cannot be reported; only streams have it"),
    ("routing_latency_ms", 0.01, "success", "The gateway's own delay cannot be separated from the model's"),
    ("provider", 0.95, None, "Prices differ by provider"),
    ("provider_model", 0.95, None, "A new version of a model cannot be distinguished from the old one"),
    ("task_type", 0.90, None, "Requests without a task type cannot be routed by task; tag them with task_type"),
    ("complexity", 0.50, None, "Prompt length is used in place of complexity; log the router's own complexity"),
    ("prompt_tokens", 0.95, "success", "Costs cannot be recomputed, nor long prompts found"),
    ("completion_tokens", 0.95, "success", "Costs cannot be recomputed"),
    ("cached_tokens", 0.50, "success", "The provider's cache looks unused, and recomputed costs come out too high"),
    ("reasoning_tokens", 0.50, "success", "Spend on reasoning cannot be separated"),
    ("cost_usd", 0.95, "success", "Spend without a price is left out of every total"),
    ("error_type", 0.90, "failure", "Kinds of failure cannot be distinguished"),
    ("retries", 0.10, "success", "Waste by retries is unknown"),
    ("is_cache_hit", 0.10, None, "Answers from the gateway's cache count as the model's own speed and cost"),
    ("queue_depth", 0.01, None, "Queues are estimated from requests in flight"),
    ("team", 0.90, None, "Spend cannot be assigned to the team that pays for it"),
    ("user_hash", 0.10, None, "How many users a change reaches is unknown"),
    ("routing_rule_id", 0.50, None, "Existing rules cannot be evaluated one by one; log the rule that decided"),
    ("routing_reason", 0.01, None, "Without a reason, routing decisions cannot be explained"),
    ("propensity", 0.50, None, "Choices are assumed to depend only on logged fields; log the probability of each choice"),
)

COMPLETENESS: tuple[Expectation, ...] = tuple(
    _warning(
        f"{column}_is_filled",
        f"{column} is logged for at least {100 * share:.0f} % of "
        + {None: "attempts", "success": "successes", "failure": "failures"}[of]
        + " of chat",
        Filled(column, share, of),
        why,
    )
    for column, share, of, why in _FILLED
)
"""About the window's rows of chat. Quality and ratings also arrive as feedback: see `answers_are_scored`."""

BASELINE: tuple[Expectation, ...] = (
    _warning(
        "no_hour_is_silent",
        "No hour is empty that had traffic in earlier weeks or on other days",
        Comparison(limit=0.0),
        "A gap in the logs reads as a saving",
    ),
    _warning(
        "logs_are_fresh",
        "The newest request is no older than a seventh of the window, or than an hour if that is longer",
        Comparison(limit=1 / 7),
        "Old data gives outdated advice; a feed that stopped looks like this",
    ),
    _warning(
        "volume_is_as_before",
        "Requests per hour are between half and double those of the previous window",
        Comparison(limit=2.0),
        "Comparisons with the previous window would show volume rather than routing",
    ),
    _warning(
        "mix_of_tasks_is_as_before",
        "Not more than 10 % of the traffic moved between task types since the previous window, beyond chance",
        Comparison(limit=0.10),
        "What was learnt on another mix may not hold for the next one",
    ),
    _warning(
        "mix_of_models_is_as_before",
        "Not more than 10 % of the traffic moved between models since the previous window, beyond chance",
        Comparison(limit=0.10),
        "The routing changed within the data: before and after are different policies",
    ),
    _warning(
        "models_are_known",
        "Every model is in the catalog",
        Comparison(limit=0.0),
        "Without a list price a model has no tier and its logged cost cannot be checked; name it in the configuration",
    ),
    _warning(
        "successes_have_a_cost",
        "Less than 0.1 % of successful calls with tokens are logged at a cost of 0",
        Comparison(limit=0.001),
        "The gateway did not know the price: that model looks free, and rules would send everything to it",
    ),
    _warning(
        "logged_cost_is_the_list_price",
        "For each model and token class, logged cost is within 10 % of the cost at dated list prices",
        Comparison(limit=0.10),
        "Savings are computed from one of the two; whoever pays the bill should know which is right",
    ),
    _warning(
        "answers_are_scored",
        "At least 1 % of successful requests have a quality, by the log or by feedback",
        Comparison(limit=0.01),
        "No rule can be proven safe without scores; log quality_score or hand over a feedback file",
    ),
    _warning(
        "feedback_is_not_repeated",
        "Less than 1 % of the scores repeat one of the same request, name, source and time",
        Comparison(limit=0.01),
        "A file delivered twice, or two judges under one name; the newest score wins",
    ),
    _warning(
        "feedback_finds_its_request",
        "At least half of the scores given in the window belong to a request in the lake",
        Comparison(limit=0.5),
        "Scores keyed by another id are lost; key them by the gateway's call id",
    ),
    _warning(
        "clocks_agree",
        "Less than 0.1 % of attempts began after they were ingested, or of scores came before their request",
        Comparison(limit=0.001),
        "A host whose clock is off puts its traffic into the wrong hour and its fallbacks before their failures",
    ),
    _warning(
        "calls_are_logged_once",
        "Less than 1 % of the answers look like duplicates: same tokens, same moment, same duration",
        Comparison(limit=0.01),
        "A wrapper and the call that it makes, or two tools, may both log a call: spend and requests then count twice",
    ),
)
"""Compared with the window before, the weeks before, list prices, the clock, or with each other. Requests, models and mixes are those of chat."""

WARNING: tuple[Expectation, ...] = COMPLETENESS + BASELINE
