"""From a question to an answer that is not stored yet: asking the analyst, making it harmless, saying it.

Belongs here: what of a question the analyst is given, and rules that come by id or by hand. Does not belong here: how results
are computed and kept (`analyst`), wording (`text`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import to_jsonable_python

from routing_pipeline.analysis.budget_projection import HISTORY_DAYS
from routing_pipeline.analysis.quality_metrics import QualityMetrics
from routing_pipeline.analysis.routing_costs import RoutingCosts
from routing_pipeline.analysis.spend_groupings import spend_by
from routing_pipeline.analysis.unit_costs import unit_costs
from routing_pipeline.analysis.user_groups import with_user_groups
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result
from routing_pipeline.ingest.feedback_totals import feedback_totals
from routing_pipeline.operations.analyst import Analyst
from routing_pipeline.operations.inputs import SAID
from routing_pipeline.operations.table import OPERATIONS, Operations
from routing_pipeline.parameters import Parameters
from routing_pipeline.recommendation.routing_rules import RoutingRules, as_chosen
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.rules.reading import read_given_rules
from routing_pipeline.serving.mcp import text
from routing_pipeline.serving.mcp.answer import Answer, Progress
from routing_pipeline.serving.mcp.log_names import mentioned
from routing_pipeline.serving.mcp.tools import Question, Tool
from routing_pipeline.serving.mcp.untrusted import cut_lists, mark_untrusted, mark_untrusted_text, texts_in
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.retention import tidy
from routing_pipeline.window.rows import are_there, calls_at
from routing_pipeline.window.scope import AnalysisScope

TELL_OF_INCIDENTS = frozenset({"routing_analytics", "routing_costs", "quality_metrics", "bottlenecks", "cost_drivers", "quality_issues"})
"""Operations whose window's incidents are told beside them."""
INCIDENTS_TOLD = 5

Rules = tuple[AnalysisScope, RoutingRules | None]
"""The window that a rule set is judged on; None: the rules that were optimised on it."""


class Computing:
    """Answers questions of one home anew; results that the pipeline has stored are taken from there."""

    def __init__(self, home: Home, engine_name: str, operations: Operations = OPERATIONS) -> None:
        self.home, self.engine_name = home, engine_name
        self.analyst = Analyst(home, engine_name, operations=operations)

    def answer(self, tool: Tool, question: Question, progress: Progress | None) -> Answer:
        """Compute, make harmless, say.

        Raises:
            PipelineError: the data, or rules that were handed over, cannot be used.
        """
        scope, result = self.result(tool, question, progress)
        content = result.model_dump()
        cut = cut_lists(content)
        since_s = scope.end_s - HISTORY_DAYS * SECONDS_PER_DAY if isinstance(result, RoutingCosts) else scope.previous_start_s
        names = mentioned(self.home, self.engine_name, since_s, scope.end_s, (*texts_in(content), *scope.notices))
        scope = scope.model_copy(update={"notices": tuple(mark_untrusted_text(notice, names) for notice in scope.notices)})
        # Read back by its own model: what leaves is a result of the type that the tool promises.
        safe = type(result).model_validate(mark_untrusted(content, (*scope.models, *scope.task_types, *names), _words(type(result))))
        about = {
            "start": f"{scope.start:%Y-%m-%dT%H:%M:%SZ}",
            "end": f"{scope.end:%Y-%m-%dT%H:%M:%SZ}",
            "timeframe": scope.timeframe,
            "covered_days": scope.covered_days,
            "snapshot_id": scope.snapshot_id,
            "requests": scope.requests,
            "notices": list(scope.notices),
            **({"left_out": cut} if cut else {}),
        }
        incidents = self._incidents(scope, progress) if tool.operation in TELL_OF_INCIDENTS else []
        if incidents:
            about["incidents"] = incidents
        self.tidy()
        further = text.feedback(feedback_totals(self.home), scope) if isinstance(safe, QualityMetrics) else ()
        return Answer(text.said(safe, scope, question, cut, incidents, further), safe.model_dump(mode="json"), about)

    def _incidents(self, scope: AnalysisScope, progress: Progress | None) -> list[dict[str, Any]]:
        """What stood out of the window's hours, in fields alone: sentences would shorten names that must stay marked."""
        found = self.analyst.answer("incidents", scope, progress).incidents[:INCIDENTS_TOLD]
        fields = {"sensor", "measured", "unit", "dimension", "value", "since", "start", "end", "goes_on", "started_this_run"}
        fields |= {"now", "usual", "excess", "baseline", "baseline_values", "effects_usd", "due_to"}
        marked = []
        for each in found:
            content = each.model_dump(include=fields)
            if each.rows is not None:
                content |= {"calls": each.rows.calls, "sessions": each.rows.sessions, "examples": each.rows.request_ids}
            marked.append(to_jsonable_python(mark_untrusted(content)))
        return marked

    def schemas(self, tools: tuple[Tool, ...]) -> dict[str, dict[str, Any]]:
        """JSON Schema of each tool's result."""
        return {tool.name: self.analyst.operations[tool.operation].result.model_json_schema(mode="serialization") for tool in tools}

    def tidy(self) -> None:
        """Drop what the home no longer needs."""
        tidy(self.home)

    def result(self, tool: Tool, question: Question, progress: Progress | None) -> tuple[AnalysisScope, Result]:
        """The window that is asked about, and the result with names as the logs hold them.

        Raises:
            PipelineError: the data, or rules that were handed over, cannot be used.
        """
        if "rules" in question.also:
            scope, rules = self._rules(question, progress)
            return scope, self.analyst.answer(tool.operation, scope, progress, {} if rules is None else {"routing_rules": rules})
        scope = self.analyst.scope(question.parameters, progress)
        result = self.analyst.answer(tool.operation, scope, progress, {name: said for name, said in question.also.items() if name in SAID})
        if isinstance(result, RoutingCosts):
            result = self._grouped(result, scope, question.also["group_by"])
            result = result.model_copy(update={"budget_projection": self.analyst.answer("budget_projection", scope, progress)})
        return scope, result

    def _grouped(self, costs: RoutingCosts, scope: AnalysisScope, by: tuple[Any, ...]) -> RoutingCosts:
        """The groupings that were asked for, all of them crossed and each by itself, with the money per unit of each."""
        asked = tuple(dict.fromkeys((by, *((each,) for each in by))))
        groupings = {dimensions: costs.by(*dimensions) for dimensions in asked}
        units = {dimensions: costs.per_unit(*dimensions) for dimensions in ((), *asked)}
        if None in groupings.values() or None in units.values():
            with open_engine(self.engine_name, spill_to=self.home.scratch / "spill") as engine:
                calls, previous = (calls_at(engine, uri) for uri in (scope.requests_uri, scope.previous_uri))
                groupings = {
                    each: found or spend_by(with_user_groups(calls, previous, scope, each), each) for each, found in groupings.items()
                }
                units = {each: found or unit_costs(calls, previous, scope, each) for each, found in units.items()}
        return costs.model_copy(update={"groupings": tuple(groupings.values()), "units": tuple(units.values())})

    def _rules(self, question: Question, progress: Progress | None) -> Rules:
        """By id: in the window that they were found in, while its rows are there. By hand: in the window that is asked about."""
        given, parameters = question.also["rules"], question.parameters
        known = self.analyst.rules_of(given) if isinstance(given, str) else None
        if known is not None and are_there(known[0].estimated_from):
            scope, found = known
            now = self.analyst.answer("routing_rules", scope, progress)
            return scope, as_chosen(now, found.rule_set.rule_set_id) or found
        rule_set = known[1].rule_set if known is not None else self._read(given, parameters)
        if known is not None and not rule_set.rules:
            return self.analyst.scope(known[0].parameters.model_copy(update={"as_of": known[0].end}), progress), None
        scope = self.analyst.scope(parameters, progress)
        return scope, self.analyst.answer("judged_rules", scope, progress, {"rule_set": rule_set})

    def _read(self, given: Any, parameters: Parameters) -> RuleSet:
        if isinstance(given, str) and not given.lstrip().startswith(("[", "{")):
            raise UnusableInputError(
                f"this home knows no rule set {json.dumps(given[:40], ensure_ascii=False)}; give latest, the rule_set_id that optimize_routing_rules gave, "
                'or the rules themselves, such as [{"when": {"task_type": ["code"]}, "route": "gpt-4o-mini"}]'
            )
        return read_given_rules(given, parameters)


def _words(kind: type[Result]) -> frozenset[str]:
    """Values of the closed choices in a result: words of ours, whatever a log calls its models."""

    def walk(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            for value in (*schema.get("enum", ()), schema.get("const")):
                if isinstance(value, str):
                    yield value
            schema = list(schema.values())
        if isinstance(schema, list):
            for each in schema:
                yield from walk(each)

    return frozenset(walk(kind.model_json_schema()))
