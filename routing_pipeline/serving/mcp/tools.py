"""The fourteen tools: which server has them, what they take, what they are for, and which operation they stand for.

Belongs here: names and parameters exactly as the task has them, reading arguments, and saying what is allowed when one
cannot be used. Does not belong here: answering (`answers`), the protocol (`server`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import GOALS, TIMEFRAMES, Parameters, read_parameters

ServerName = Literal["intelligence-router", "cost-tracker"]
SERVERS: tuple[ServerName, ...] = ("intelligence-router", "cost-tracker")
DIMENSIONS: tuple[str, ...] = (
    *("model", "tier", "task_type", "provider", "team", "day", "operation"),
    *("feature", "workflow", "prompt_version", "tags", "user_cohort", "user_volume"),
    *("model_version", "service_tier", "reasoning_effort"),
)
LATEST = "latest"
MOST_NAMES = 50
LONGEST_ARGUMENT = 200


@dataclass(frozen=True)
class Question:
    """What one call asks: everything that its answer depends on, the data apart."""

    tool: str
    parameters: Parameters
    also: Mapping[str, Any] = field(default_factory=dict)
    """What is no parameter of the analysis: `group_by`, `models`, `rules`."""


class Reading:
    """Collects what the arguments of one call say."""

    def __init__(self, base: Parameters) -> None:
        self.base = base
        self.changed: dict[str, Any] = {}
        self.also: dict[str, Any] = {}


@dataclass(frozen=True)
class Parameter:
    """One argument of a tool. `read` raises UnusableInputError with what is allowed; `default` is shown, None means required by nobody."""

    name: str
    schema: Mapping[str, Any]
    read: Callable[[Any, Reading], None]
    default: Callable[[Parameters], Any]


@dataclass(frozen=True)
class Tool:
    """One tool. `operation` is the row of the table (`operations.table`) that it stands for; its result is the structured output."""

    name: str
    server: ServerName
    title: str
    description: str
    parameters: tuple[Parameter, ...]

    @property
    def operation(self) -> str:
        """The name without its verb."""
        return self.name.split("_", 1)[1]

    def question(self, arguments: Mapping[str, Any], base: Parameters) -> Question:
        """What these arguments ask; those not given, or null, are taken from `base`.

        Raises:
            UnusableInputError: an argument is unknown or says nothing usable; the message says what is allowed.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in arguments:
            if name not in known:
                raise UnusableInputError(f"{self.name} takes {', '.join((*known, 'detail', 'page'))}; not {_shown(name)}")
        reading = Reading(base)
        for name, parameter in known.items():
            given = arguments.get(name)
            parameter.read(parameter.default(base) if given is None else given, reading)
        merged = base.model_dump() | reading.changed
        return Question(self.name, read_parameters(**merged), reading.also)


def _shown(value: object) -> str:
    """An argument as an error repeats it: short, on one line."""
    return json.dumps(str(value)[:40], ensure_ascii=False)


def _refuse(name: str, value: object, allowed: str) -> UnusableInputError:
    return UnusableInputError(f"{name}: {allowed} (got {_shown(value)})")


def _one_of(name: str, allowed: tuple[str, ...], into: str, hint: str = "") -> Callable[[Any, Reading], None]:
    def read(value: Any, reading: Reading) -> None:
        if not isinstance(value, str) or value.strip() not in allowed:
            raise _refuse(name, value, f"one of {', '.join(allowed)}{hint}")
        reading.changed[into] = value.strip()

    return read


def _number(name: str, value: Any, allowed: str, *, low: float, high: float) -> float:
    text = str(value).strip()
    try:
        number = float(text) if not isinstance(value, bool) and len(text) < 40 else math.nan
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise _refuse(name, value, allowed)
    return number


def _threshold(value: Any, reading: Reading) -> None:
    reading.changed["quality_threshold"] = (
        None if value is None else _number("threshold", value, "a number from 0 to 1, the least quality that is acceptable", low=0, high=1)
    )


_CONSTRAINT = re.compile(r"\s*(cost|quality_drop|quality)\s*(<=|>=|<|>)\s*\$?\s*([0-9.eE+-]+)\s*")
_CONSTRAINTS = (
    'a comma-separated list of cost<USD per request and quality>0..1, such as "cost<0.01,quality>0.8"; '
    'quality may not fall by more than 0.01 below today\'s besides, unless quality_drop<0..1 says otherwise; "" for none'
)
_SIDE = {"cost": "<", "quality": ">", "quality_drop": "<"}


def _constraints(value: Any, reading: Reading) -> None:
    if value is None:
        return
    if not isinstance(value, str) or len(value) > LONGEST_ARGUMENT:
        raise _refuse("constraints", value, _CONSTRAINTS)
    found: dict[str, float | None] = {"cost": None, "quality": None, "quality_drop": None}
    for part in filter(str.strip, value.split(",")):
        match = _CONSTRAINT.fullmatch(part)
        if match is None or match[2][0] != _SIDE[match[1]] or found[match[1]] is not None:
            raise _refuse("constraints", part, _CONSTRAINTS)
        found[match[1]] = _number("constraints", match[3], _CONSTRAINTS, low=0, high=1e6 if match[1] == "cost" else 1)
    if found["cost"] == 0:
        raise _refuse("constraints", value, _CONSTRAINTS)
    reading.changed |= {"cost_threshold": found["cost"], "quality_threshold": found["quality"]}
    if found["quality_drop"] is not None:
        reading.changed["max_quality_drop"] = found["quality_drop"]


_REDUCTION = 'the share of spend to save, such as "20%" or 0.2: more than 0, less than 100 %'


def _target_reduction(value: Any, reading: Reading) -> None:
    text = str(value).strip()
    percent = text.endswith("%")
    number = _number("target_reduction", text.removesuffix("%"), _REDUCTION, low=0, high=100 if percent else 1)
    share = number / 100 if percent else number
    if not 0 < share < 1:
        raise _refuse("target_reduction", value, _REDUCTION)
    reading.changed["target_reduction"] = round(share, 12)


def _names(name: str, value: Any, allowed: str) -> tuple[str, ...]:
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise _refuse(name, value, allowed)
    found = tuple(dict.fromkeys(each.strip() for each in listed if each.strip()))
    if not 0 < len(found) <= MOST_NAMES or any(len(each) > LONGEST_ARGUMENT for each in found):
        raise _refuse(name, value, allowed)
    return found


def _group_by(value: Any, reading: Reading) -> None:
    allowed = f"one or several of {', '.join(DIMENSIONS)}, comma-separated"
    found = _names("group_by", value, allowed)
    if not set(found) <= set(DIMENSIONS):
        raise _refuse("group_by", value, allowed)
    reading.also["group_by"] = found


def _models(value: Any, reading: Reading) -> None:
    found = _names("models", value, '"all", or names of models as the gateway routes by them, comma-separated')
    reading.also["models"] = None if found == ("all",) else found


def _kind(value: Any, reading: Reading) -> None:
    del reading
    elsewhere = {"cost": "cost-tracker's identify_cost_drivers", "quality": "identify_quality_issues"}
    if value != "performance":
        hint = f"; for {value} ask {elsewhere[value]}" if isinstance(value, str) and value in elsewhere else ""
        raise _refuse("type", value, f"performance (slow decisions, availability, queues, latency spikes){hint}")


def _based_on(value: Any, reading: Reading) -> None:
    del reading
    if value != "historical_performance":
        raise _refuse("based_on", value, "historical_performance: what the logs show is all that a mix is computed from")


def _rules(name: str) -> Callable[[Any, Reading], None]:
    def read(value: Any, reading: Reading) -> None:
        # Read by whoever finds rule sets; here it only has to have a shape.
        if not isinstance(value, str | list | dict) or not value:
            raise _refuse(name, value, f'"{LATEST}", the id of a rule set, or rules as JSON')
        reading.also["rules"] = value

    return read


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


TIMEFRAME = Parameter(
    "timeframe",
    _text("Length of the window, ending with the newest request", enum=list(TIMEFRAMES)),
    _one_of("timeframe", tuple(TIMEFRAMES), "timeframe"),
    lambda base: base.timeframe,
)
PLAN_TIMEFRAME = Parameter("timeframe", TIMEFRAME.schema, TIMEFRAME.read, lambda _: "30d")


def _goal_parameter(name: str, description: str) -> Parameter:
    return Parameter(name, _text(description, enum=list(GOALS)), _one_of(name, GOALS, "goal"), lambda base: base.goal)


def _rules_parameter(name: str) -> Parameter:
    return Parameter(
        name,
        {
            "description": "`latest` (the rules of the newest report), the id of a rule set that optimize_routing_rules gave, "
            "or the rules themselves: a list of {when, route}, or a whole rule set as in rules.json",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}, {"type": "object"}],
        },
        _rules(name),
        lambda _: LATEST,
    )


TOOLS: tuple[Tool, ...] = (
    Tool(
        "get_routing_analytics",
        "intelligence-router",
        "Routing performance overview",
        "Volume and health of the traffic: requests, success, failures by kind, routing and end-to-end latency, retries, fallbacks, cache "
        "hits, share of each model and tier. Start here; for costs ask cost-tracker, for quality get_quality_metrics.",
        (TIMEFRAME,),
    ),
    Tool(
        "get_quality_metrics",
        "intelligence-router",
        "Quality metrics",
        "How good the answers are: mean quality by model and by task type with intervals and label coverage, corrected for which answers "
        "were scored; quality against cost; completion; users' ratings. To compare models fairly, ask evaluate_model_performance.",
        (TIMEFRAME,),
    ),
    Tool(
        "analyze_request_patterns",
        "intelligence-router",
        "Request patterns",
        "Which kinds of request arrive and when: common kinds with their share of cost, peak hours, seasonality, complexity, drift since "
        "the window before. Use it for capacity questions and before deciding what a routing rule should depend on.",
        (TIMEFRAME,),
    ),
    Tool(
        "evaluate_model_performance",
        "intelligence-router",
        "Model performance",
        "What each model delivers per task type: quality, cost, latency, reliability, raw and adjusted for which requests it was sent, and "
        "which differences are real. Use it to compare models; plain averages are unfair to models that are sent the hard requests.",
        (
            Parameter(
                "models",
                _text('"all", or names of models as the gateway routes by them, comma-separated'),
                _models,
                lambda _: "all",
            ),
            TIMEFRAME,
        ),
    ),
    Tool(
        "analyze_routing_decisions",
        "intelligence-router",
        "Routing decisions",
        "How often today's routing makes the choice that is best by the evidence, what the other choices cost (regret), missed opportunities "
        "by segment, and what each existing rule does. Use it to see whether routing is worth changing at all.",
        (_goal_parameter("criteria", "What a better decision improves"),),
    ),
    Tool(
        "identify_bottlenecks",
        "intelligence-router",
        "Performance bottlenecks",
        "Where requests wait or fail: slow routing decisions by rule and hour, models that were down or rate-limited, queues, latency "
        "spikes with the requests behind them. Use it when latency or errors rise.",
        (Parameter("type", _text("Kind of bottleneck", enum=["performance"]), _kind, lambda _: "performance"), TIMEFRAME),
    ),
    Tool(
        "identify_quality_issues",
        "intelligence-router",
        "Quality bottlenecks",
        "Where answers are poor: kinds of request below the threshold, models that do not fit their task, failures concentrated in one "
        "task type and model, and the day quality changed. Use it when users complain, and before trusting a cheaper model.",
        (
            Parameter(
                "threshold",
                {
                    "description": "Least acceptable quality, 0..1; null: today's mean less the allowed drop",
                    "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}],
                },
                _threshold,
                lambda base: base.quality_threshold,
            ),
        ),
    ),
    Tool(
        "optimize_routing_rules",
        "intelligence-router",
        "Optimised routing rules",
        "Rules that improve the goal within the constraints, learned on one half of the sessions and proven on the other, or no_change with "
        "reasons; conflicting constraints are named with the nearest ones that can be met. It proposes and changes nothing: loading rules "
        "into a gateway is a person's decision. Pass the rule_set_id on to create_optimization_plan and assess_optimization_risks.",
        (
            _goal_parameter("goal", "What the rules should improve"),
            Parameter(
                "constraints",
                {"anyOf": [_text(""), {"type": "null"}], "description": f"{_CONSTRAINTS}; null: those that the server was started with"},
                _constraints,
                lambda _: None,
            ),
        ),
    ),
    Tool(
        "optimize_model_mix",
        "intelligence-router",
        "Optimised model mix",
        "Share of traffic per model, now and under the proven rules, overall and by task type, and the value of relaxing each constraint. "
        "Use it for capacity and contract questions.",
        (
            Parameter(
                "based_on",
                _text("What the mix is computed from", enum=["historical_performance"]),
                _based_on,
                lambda _: "historical_performance",
            ),
            TIMEFRAME,
        ),
    ),
    Tool(
        "create_optimization_plan",
        "intelligence-router",
        "Implementation plan",
        "A roadmap in three phases for a rule set and all other findings: impact, effort, owner, prerequisites, success criteria. "
        "Use it after optimize_routing_rules.",
        (_rules_parameter("recommendations"),),
    ),
    Tool(
        "assess_optimization_risks",
        "intelligence-router",
        "Risk assessment",
        "What could go wrong with a change of rules: chances that quality falls or that latency or cost rises, how strong an unlogged cause would "
        "have to be to undo the claim, who would be affected, canary share and rollback trigger. Use it on any rules, including your own, "
        "before they are loaded.",
        (_rules_parameter("changes"),),
    ),
    Tool(
        "get_routing_costs",
        "cost-tracker",
        "Cost analysis",
        "Spend: total, per request and per 1,000 tokens, and money per session, per solved task and per user with intervals, by any of model, tier, "
        "task_type, provider, team, day, operation (kind of call; figures per request are for chat), feature, workflow, prompt_version, tags, "
        "user_cohort (new or returning users), user_volume (heavy or light), model_version, service_tier, reasoning_effort; trend, projection to the end of the month and of the quarter from this window "
        "and from months of spend (also by team), budgets, logged against recomputed cost. Start here for costs.",
        (
            TIMEFRAME,
            Parameter(
                "group_by",
                _text(f"One or several of {', '.join(DIMENSIONS)}, comma-separated; several are crossed, and each is given by itself too"),
                _group_by,
                lambda _: "model,task_type",
            ),
        ),
    ),
    Tool(
        "identify_cost_drivers",
        "cost-tracker",
        "Cost bottlenecks",
        "Avoidable spend: expensive models where a cheaper one meets the quality floor, paid attempts that failed, retries, uncached repeats, "
        "oversized prompts, budget overruns, spikes and who caused them, and why spend changed since the window before.",
        (TIMEFRAME,),
    ),
    Tool(
        "generate_cost_optimization_plan",
        "cost-tracker",
        "Cost optimisation plan",
        "Actions that reach a target reduction over 30 days, lowest risk first, each with its saving and interval; how much can be saved "
        "when the target is out of reach. Use it for cost reduction initiatives and budget planning.",
        (
            Parameter(
                "target_reduction",
                {"description": _REDUCTION, "anyOf": [{"type": "string"}, {"type": "number"}]},
                _target_reduction,
                lambda base: f"{100 * base.target_reduction:g}%",
            ),
            PLAN_TIMEFRAME,
        ),
    ),
)
BY_NAME: dict[str, Tool] = {tool.name: tool for tool in TOOLS}
