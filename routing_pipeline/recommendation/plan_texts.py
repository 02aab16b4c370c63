"""What the optimization plan says: one row for each kind of item, with slots for what was found.

Belongs here: titles, sentences, owners, efforts and criteria of items, as data. Does not belong here: which items apply, and what fills
the slots (`plan_kinds`), how a row becomes an item (`plan_item`).

A slot in braces is filled by `str.format`: `{lost:,}` takes a number, `{model}` a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from routing_pipeline.clock import DAYS_PER_MONTH
from routing_pipeline.recommendation.cost_optimization_plan import ActionCategory
from routing_pipeline.recommendation.plan_item import FINOPS, PLATFORM, PRODUCT, Effect, ItemText

GATEWAY_SETTINGS, NO_ROUTING_CHANGE = "gateway settings", "changes no routing"

_RULES_EFFECTS = (
    Effect("cost", "Saving, once at 100 %", "USD", DAYS_PER_MONTH),
    Effect("quality", "Change of mean quality", "points"),
    Effect("latency", "Change of mean latency", "share"),
)

RULES_CANARY = ItemText(
    id="rules-canary",
    category="Routing rules",
    title="{start} the proposed {rules} on 1 %, then 5 % of the affected conversations",
    current_state="The gateway's current rules route all traffic.",
    recommended_change=(
        "Apply rules.json in the gateway to that share of sessions. At 100 % it moves {moved} of requests and {moved_spend} of spend. "
        "The platform team sets the share in the gateway."
    ),
    effects=_RULES_EFFECTS,
    effort_reason="{effort_reason}",
    risk_reason="{risk_reason}",
    validation_criteria=(),
    source="routing_rules",
    prerequisites=(
        "rules.json transferred to the gateway's routing by the platform team, reviewed as a diff",
        "rule id written to every request's log",
    ),
)
APPROVAL = "approval by a stakeholder: routing-pipeline approve"
RISKIER_ALONE = "{risk_reason}; taken alone, {alone} of the {rules} {are} of high risk on the requests decided"
"""The risk of a set, where some of its rules are riskier than the whole."""
RULES_ROLLOUT = ItemText(
    id="rules-rollout",
    category="Routing rules",
    title="Extend the rules to 25, 50 and 100 %",
    phase=2,
    current_state="The canary runs on 5 % of the affected sessions.",
    recommended_change="Follow the canary steps of the monitoring plan. The sequence of looks at canary and control decides at 50 %.",
    effects=_RULES_EFFECTS,
    effort_reason="one setting per step",
    risk_reason="the same as for the canary; it starts only if the canary showed no serious harm",
    who=f"{PLATFORM}, decision by the {PRODUCT.lower()}",
    prerequisites=("the canary crossed no boundary in its first week",),
    validation_criteria=("non-inferior quality at 50 %", "realized saving within the forecast interval in the next report"),
    source="monitoring_plan",
)
RULES_NOT_STARTED = ItemText(
    id="rules-not-started",
    category="Routing rules",
    title="Do not start the given {rules} unchanged",
    impact_level="High",
    current_state="Replayed on held-out sessions: {why_not}.",
    recommended_change=(
        "Do not start a trial of these rules. Change them and run the analysis again, or let optimize_routing_rules search for rules within "
        "the limits. A larger fall of quality has to be allowed explicitly (--max-quality-drop)."
    ),
    effects=_RULES_EFFECTS,
    effort_reason="nothing to transfer",
    risk="High",
    risk_reason="{why_not}",
    validation_criteria=("the changed rules keep every limit when they are analysed again",),
    source="routing_rules",
)

COST_LOW_RISK = ItemText(
    id="cost-{action}",
    category="{category}",
    title="{title}",
    current_state="{basis}",
    recommended_change="{what}",
    effects=(Effect("cost", "Saving, taken alone", "USD", DAYS_PER_MONTH),),
    effort_reason=GATEWAY_SETTINGS,
    risk_reason="answers do not change",
    who="{owner}",
    validation_criteria=("{validation}",),
    source="cost_optimization_plan",
)
COST_RISKIER = replace(
    COST_LOW_RISK,
    phase=2,
    effort="Medium",
    effort_reason="prompts, tests or agreements with teams",
    risk_reason="answers may change, or some requests may be refused",
)
COST_TEST_FIRST = ("an A/B test on quality",)
COST_SLOTS: Mapping[ActionCategory, tuple[str, str, str]] = {
    "rules": ("Model choice", PLATFORM, "no fall of quality beyond the tolerance in an A/B test"),
    "retries": ("Retries and fallbacks", PLATFORM, "completion rate not below today's; spend on failed attempts falls"),
    "cache": ("Caching", PLATFORM, "cache-hit rate rises; quality of cached answers not below that of the others"),
    "prompt_length": ("Prompt length", PRODUCT, "prompt tokens per request fall; quality of the task not below today's"),
    "budgets": ("Budgets", FINOPS, "no team stopped by its budget in a usual week"),
    "service_tier": ("Service tier", FINOPS, "results of the work are still there when their owners need them"),
}
"""Category, owner and validation criterion of each kind of cost action."""

OUTAGE = ItemText(
    id="availability-{model_id}",
    category="Availability",
    title="Protect requests when {model} fails",
    current_state=(
        "From {start:%d %b %H:%M} to {end:%d %b %H:%M} UTC, {failures:,} of {attempts:,} calls failed; {hit:,} requests were affected and "
        "{lost:,} lost."
    ),
    recommended_change="Take {model} out of rotation when its error rate stays above {error_limit} for five minutes.",
    effects=(Effect("availability", "Requests that it would have saved", "share"),),
    effort_reason=GATEWAY_SETTINGS,
    risk_reason="takes effect only while the model fails",
    prerequisites=("a fallback model with spare capacity",),
    validation_criteria=("fewer requests lost in the model's next incident than in this one",),
    source="bottlenecks",
)
RATE_LIMIT = replace(
    OUTAGE,
    recommended_change=(
        "Request a higher rate limit for {model}. Until then, cap its share of traffic below the limit and fall back at the first 429."
    ),
)
RATE_LIMIT_UNTIL_RULES = replace(
    OUTAGE,
    recommended_change=(
        "Cap the share of traffic of {model} below its rate limit and fall back at the first 429 until the proposed rules take {moved_away} "
        "of all requests from it. Request a higher limit only if the rules are not approved."
    ),
)

INCOMPATIBLE = ItemText(
    id="pair-{task_id}-{model_id}-{kind}",
    category="Task and model do not fit",
    title="Stop sending {task} to {model}",
    current_state=(
        "{affected:,} of {calls:,} calls end in {kind}. The rate is {same_model} for the model's other tasks and {same_task} for the task's "
        "other models."
    ),
    recommended_change="Route {task} to the task's other models until the cause is found.",
    effects=(Effect("availability", "Share of these calls that end in {kind}", "share"),),
    effort_reason="1 rule",
    risk_reason="the other models already handle the task",
    validation_criteria=("share of {kind} for the task falls to that of its other models",),
    source="quality_issues",
)
MISMATCH = ItemText(
    id="mismatch-{segment_id}-{model_id}",
    category="Model choice",
    title="Test {alternative} in place of {model} for {label}",
    phase=2,
    current_state="{requests:,} requests of this kind went to {model}.",
    recommended_change="A/B test {alternative} on them.",
    effects=(
        Effect("quality", "Quality gained on these requests", "points"),
        Effect("cost", "Change of cost per request", "USD"),
    ),
    effort_reason="1 rule",
    risk="Medium",
    risk_reason="not held out; evidence of grade {grade}",
    prerequisites=("enough scores on this kind of request",),
    validation_criteria=("the whole interval of the difference in quality is above 0",),
    source="quality_issues",
)
DEGRADATION = ItemText(
    id="degradation-{model_id}-{task_id}-{start:%d%H}",
    category="Quality over time",
    title="Find out why quality of {where} fell",
    impact_level="Low",
    current_state="Quality fell from {start:%d %b %H:%M} until {end:%d %b %H:%M} UTC, on {labelled:,} scored answers.",
    recommended_change="Ask the provider what changed, pin the model's version, and alert on the daily quality of each model.",
    effects=(Effect("quality", "Quality lost in that time", "points"),),
    effort_reason="an alert and a question to the provider",
    risk_reason=NO_ROUTING_CHANGE,
    validation_criteria=("quality of the model back within its usual interval",),
    source="quality_issues",
)
DEGRADATION_SINCE = replace(
    DEGRADATION,
    impact_level="Medium",
    current_state="Quality fell from {start:%d %b %H:%M} UTC, on {labelled:,} scored answers.",
)

_UNKNOWN_CAUSE = "the gain depends on the cause, which the logs do not show"
LATENCY_SPIKES = ItemText(
    id="latency-spikes",
    category="Latency",
    title="Route around slow hours of {model}",
    phase=2,
    current_state=("{spikes}; the worst, on {start:%d %b %H:%M} UTC, was {factor:.1f} times as slow as usual over {requests:,} calls."),
    recommended_change="Latency-aware fallback: send requests elsewhere while the model's latency is twice its usual level.",
    effects=(Effect("latency", "Time saved", "ms", unknown=_UNKNOWN_CAUSE),),
    effort="Medium",
    effort_reason="a health signal that the router has to read",
    risk="Medium",
    risk_reason="the fallback may be more expensive or weaker",
    prerequisites=("latency per model as a live metric",),
    validation_criteria=("95th percentile of latency in such hours falls",),
    source="bottlenecks",
)
SLOW_RULES = ItemText(
    id="slow-rules",
    category="Latency",
    title="Simplify slow routing rules",
    phase=3,
    impact_level="Low",
    current_state="Rules that decide more slowly than the rest: {slow}. The slowest is {rule}.",
    recommended_change="Review what these rules compute or call before they decide.",
    effects=(Effect("latency", "Time saved", "ms", unknown=_UNKNOWN_CAUSE),),
    effort="Medium",
    effort_reason="code of the router",
    risk_reason="the decision stays the same",
    validation_criteria=("share of slow decisions of these rules falls to 5 %",),
    source="bottlenecks",
)
COLLECT = ItemText(
    id="collect",
    category="Data collection",
    title="Log what is missing: {names}",
    current_state="{consequences}",
    recommended_change="Log {names} with every request.",
    effects=(Effect("evidence", "What it makes measurable", "share", unknown="missing data cannot be valued in advance"),),
    effort_reason="{effort_reason}",
    risk_reason=NO_ROUTING_CHANGE,
    validation_criteria=("completeness of these columns in the next report's data quality",),
    source="scope",
)
CONSEQUENCE = "Without {name}: {consequence}."

EXPLORE = ItemText(
    id="explore",
    category="Evidence",
    title="Keep routing a small share at random, with logged probabilities",
    phase=3,
    current_state="{state}",
    recommended_change=(
        "Route {share} of sessions at random among the candidates and log the probability. If exploration.json was written, it is such a rule set."
    ),
    effects=(Effect("evidence", "What it makes provable", "share", unknown="the result is known only after it has run"),),
    effort_reason="1 weighted rule",
    risk_reason="limited to its share of traffic",
    prerequisites=("propensity written to every request's log",),
    validation_criteria=("the next report's evidence is of grade A on this traffic",),
    source="monitoring_plan",
)
EXPLORE_FIRST = replace(EXPLORE, phase=1, impact_level="High")
"""Without rules, exploring is the first step."""
EXPLORE_LATER = replace(
    EXPLORE,
    title="Collect more logs before routing a share at random",
    recommended_change=(
        "Collect more logs first: at {share} of today's traffic it would take more than {longest} days. Or explore a larger share on fewer kinds "
        "of request."
    ),
)
"""With too little traffic for exploring to decide anything in time."""
EXPLORE_GRADE = "Evidence of grade {grade}."
EXPLORE_NO_RULE = "No rule passed the held-out test."
EXPLORE_HYPOTHESIS = "About {needed:,} requests would settle the open question: {hypothesis}."
EXPLORE_DAYS = "At least {days} of logs are needed."

FEEDBACK_LOOP = ItemText(
    id="feedback-loop",
    category="Continuous optimisation",
    title="Run this analysis every week and compare each forecast with the outcome",
    phase=3,
    impact_level="Low",
    current_state="This report covers a single window.",
    recommended_change="Schedule the weekly review, connect the alerts, and renew the rules when models or prices change.",
    effects=(
        Effect("evidence", "What it maintains", "share", unknown="it preserves the gains; how much would be lost without it is unknown"),
    ),
    effort="Medium",
    effort_reason="a deployment with a schedule and an alert channel",
    risk_reason=NO_ROUTING_CHANGE,
    who=f"{PLATFORM}, {FINOPS}",
    prerequisites=("access of the pipeline to the log bucket",),
    validation_criteria=("realized outcomes of every published rule set within their forecast intervals",),
    source="run",
)
