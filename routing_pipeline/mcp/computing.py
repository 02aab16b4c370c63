"""From a question to an answer that is not stored yet: asking the analyst, making it harmless, saying it.

Belongs here: which call of the analyst each tool stands for, and rules that come by id or by hand. Does not belong here:
how results are computed and kept (`analyst`), wording (`text`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from routing_pipeline import analyst as analyst_
from routing_pipeline.analysis.routing_costs import RoutingCosts, spend_by
from routing_pipeline.analyst import Analyst
from routing_pipeline.engine import open_engine
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result
from routing_pipeline.home import Home
from routing_pipeline.mcp import text
from routing_pipeline.mcp.answers import Answer, Progress
from routing_pipeline.mcp.inert import cut_lists, inert
from routing_pipeline.mcp.tools import Question, Tool
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy.rule_set import RuleSet
from routing_pipeline.recommendation.given_rules import read_given_rules
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.rebuilding import report_of
from routing_pipeline.results import StoredRun
from routing_pipeline.scope import AnalysisScope
from routing_pipeline.window_rows import are_there, rows_at

Rules = tuple[AnalysisScope, RoutingRules | None]
"""The window that a rule set is judged on; None: the rules that were optimised on it."""


class Computing:
    """Answers questions of one home anew; results that the pipeline has stored are taken from there."""

    def __init__(self, home: Home, engine_name: str) -> None:
        self.home, self.engine_name = home, engine_name
        self.analyst = Analyst(home, engine_name)

    def answer(self, tool: Tool, question: Question, progress: Progress | None) -> Answer:
        """Compute, make harmless, say.

        Raises:
            PipelineError: the data, or rules that were handed over, cannot be used.
        """
        scope, result = self._result(tool, question, progress)
        content = result.model_dump(mode="json")
        cut = cut_lists(content)
        # Read back by its own model: what leaves is a result of the type that the tool promises.
        safe = type(result).model_validate(inert(content, (*scope.models, *scope.task_types), _words(type(result))))
        about = {
            "start": f"{scope.start:%Y-%m-%dT%H:%M:%SZ}",
            "end": f"{scope.end:%Y-%m-%dT%H:%M:%SZ}",
            "timeframe": scope.timeframe,
            "snapshot_id": scope.snapshot_id,
            "requests": scope.requests,
            "notices": inert(list(scope.notices)),
            **({"left_out": cut} if cut else {}),
        }
        self.home.tidy()
        return Answer(text.said(safe, scope, question, cut), safe.model_dump(mode="json"), about)

    def schemas(self, tools: tuple[Tool, ...]) -> dict[str, dict[str, Any]]:
        """JSON Schema of each tool's result."""
        return {tool.name: getattr(analyst_, tool.result).model_json_schema(mode="serialization") for tool in tools}

    def markdown(self, run: StoredRun) -> str:
        """report.md of a run."""
        return report_markdown(report_of(run))

    def _result(self, tool: Tool, question: Question, progress: Progress | None) -> tuple[AnalysisScope, Result]:
        if "rules" in question.also:
            scope, rules = self._rules(question, progress)
            return scope, getattr(self.analyst, tool.analysis)(scope, rules, progress)
        scope = self.analyst.scope(question.parameters, progress)
        if "models" in question.also:
            return scope, self.analyst.model_performance(scope, question.also["models"], progress)
        compute: Callable[..., Result] = getattr(self.analyst, tool.analysis)
        result = compute(scope, progress=progress)
        if isinstance(result, RoutingCosts):
            result = self._grouped(result, scope, question.also["group_by"])
            result = result.model_copy(update={"budget_projection": self.analyst.budget_projection(scope, progress)})
        return scope, result

    def _grouped(self, costs: RoutingCosts, scope: AnalysisScope, by: tuple[Any, ...]) -> RoutingCosts:
        """The groupings that were asked for: all of them crossed, and each by itself."""
        found = []
        for dimensions in dict.fromkeys((by, *((each,) for each in by))):
            grouping = costs.by(*dimensions)
            if grouping is None:
                with open_engine(self.engine_name, spill_to=self.home.scratch / "spill") as engine:
                    grouping = spend_by(rows_at(engine, scope.requests_uri), dimensions)
            found.append(grouping)
        return costs.model_copy(update={"groupings": tuple(found)})

    def _rules(self, question: Question, progress: Progress | None) -> Rules:
        """By id: in the window that they were found in, while its rows are there. By hand: in the window that is asked about."""
        given, parameters = question.also["rules"], question.parameters
        known = self.analyst.rules_of(given) if isinstance(given, str) else None
        if known is not None and are_there(known[0].estimated_from):
            return known[0], None
        rule_set = known[1].rule_set if known is not None else self._read(given, parameters)
        if known is not None and not rule_set.rules:
            return self.analyst.scope(known[0].parameters.model_copy(update={"as_of": known[0].end}), progress), None
        scope = self.analyst.scope(parameters, progress)
        return scope, self.analyst.judged_rules(rule_set, scope, progress)

    def _read(self, given: Any, parameters: Parameters) -> RuleSet:
        if isinstance(given, str) and not given.lstrip().startswith(("[", "{")):
            raise UnusableInputError(
                f"this home knows no rule set {json.dumps(given[:40])}; give latest, the rule_set_id that optimize_routing_rules gave, "
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
