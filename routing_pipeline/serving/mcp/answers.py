"""One answer per question: from the store when the same was asked of the same data, else computed and stored.

Belongs here: the address of an answer, rule sets that are named instead of handed over, and what is stored of a report.
Does not belong here: computing (`computing`, loaded when first needed), the protocol (`server`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from routing_pipeline.catalog import Catalog
from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.errors import PipelineError, UnusableInputError
from routing_pipeline.estimates import Result
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import Parameters
from routing_pipeline.serving.mcp.answer import Answer, Progress
from routing_pipeline.serving.mcp.brief import detailed, read_detail
from routing_pipeline.serving.mcp.tools import LATEST, Question, Tool
from routing_pipeline.serving.mcp.untrusted import is_plain, mark_untrusted, texts_in, unmarked
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.storage.runs import StoredRun

if TYPE_CHECKING:
    from routing_pipeline.rules.record import RuleSetRecord
    from routing_pipeline.serving.mcp.computing import Computing

COMPUTING = "routing_pipeline.serving.mcp.computing"
"""What computes an answer, by its name: it takes seconds to load."""
REPORT = "routing-pipeline://reports/latest"
"""The newest report as people read it."""
NAMES_OF_S = 100 * SECONDS_PER_DAY
"""How far back names are looked for that a report may mention: longer than any analysis looks back, seconds."""


class Answers:
    """Answers about one home; `base` is what the server was started with, the arguments of a call win over it.

    `open_record` gives the record of its rule sets, the home's own without it; it is called when an answer first needs one, and
    most need none: everything about rules is loaded where it is needed.
    """

    def __init__(
        self,
        home: Home,
        base: Parameters | None = None,
        engine_name: str = "duckdb",
        open_record: Callable[[], RuleSetRecord] | None = None,
    ) -> None:
        self.home, self.base, self.engine_name = home, base or Parameters(), engine_name
        self._open_record = open_record
        self._computer: Computing | None = None

    @cached_property
    def record(self) -> RuleSetRecord:
        """What was decided about the rule sets of this home."""
        from routing_pipeline.rules.record import record_of

        return self._open_record() if self._open_record else record_of(self.home)

    def answer(self, tool: Tool, arguments: Mapping[str, Any], progress: Progress | None = None) -> Answer:
        """The answer to one call; whole, unless `detail` or `page` are among the arguments.

        Raises:
            PipelineError: the arguments, or the data, cannot be used; the message is one line that says what to do.
        """
        given = unmarked(dict(arguments))
        asked = read_detail(given)
        return detailed(self._whole(tool, given, progress), *asked)

    def _whole(self, tool: Tool, given: dict[str, Any], progress: Progress | None) -> Answer:
        question = self._resolved(tool.question(given, self.base))
        key = self._key(question)
        stored = self.home.results.load_answer(key)
        if stored is not None:
            return self._dated(Answer(stored["text"], stored["structured"], stored["about"]))
        try:
            answer = self._computing().answer(tool, question, progress)
        except PipelineError as error:
            # A check of the data quotes them.
            raise type(error)(self._harmless(str(error))) from error
        # Asked again: rows or scores that came while it was computed belong to the next answer.
        if key == self._key(question):
            self.home.results.save_answer(key, {"text": answer.text, "structured": answer.structured, "about": answer.about})
        return replace(self._dated(answer), source="computed")

    def result(self, tool: Tool, arguments: Mapping[str, Any], progress: Progress | None = None) -> Result:
        """The result behind an answer, for programs: names stand in it as the logs hold them, unmarked.

        Raises:
            PipelineError: the arguments, or the data, cannot be used.
        """
        found = self._computing().result(tool, self._resolved(tool.question(arguments, self.base)), progress)[1]
        self._computing().tidy()
        return found

    def schema_of(self, tools: tuple[Tool, ...]) -> dict[str, dict[str, Any]]:
        """JSON Schema of each tool's structured output, by tool; stored, because the models take seconds to load."""
        key = key_of(schemas=[tool.name for tool in tools], code=code_key(COMPUTING))
        stored = self.home.results.load_answer(key)
        if stored is None:
            stored = self._computing().schemas(tools)
            self.home.results.save_answer(key, stored)
        return stored

    # What earlier runs left

    def latest_run(self) -> StoredRun:
        """The run that made the newest report, experiments and alerts apart.

        Raises:
            UnusableInputError: no such report has been made yet.
        """
        newest = self.home.runs.latest()
        if newest is None and self.home.runs.all():
            raise UnusableInputError(self.home.runs.why_no_latest())
        if newest is None:
            raise UnusableInputError(
                "this home holds no report yet; let routing-pipeline run or analyze make one, or ask optimize_routing_rules and pass its rule_set_id"
            )
        return newest

    def latest_report(self) -> dict[str, Any]:
        """report.json of the newest run, its texts made harmless.

        Raises:
            UnusableInputError: there is none, or another version wrote it.
        """
        from routing_pipeline.report.rebuilding import report_of

        return dict(self._harmless(report_of(self.latest_run()).model_dump()))

    def latest_rule_set(self) -> dict[str, Any]:
        """rules.json of the newest run with the status that it has now, its texts made harmless."""
        return self._current(self.latest_report()["routing_rule_set"])

    def latest_markdown(self) -> str:
        """report.md of the newest run, which escapes what logs say by itself."""
        # Takes seconds to load, and no answer needs it.
        from routing_pipeline.report.markdown import report_markdown
        from routing_pipeline.report.rebuilding import report_of

        return report_markdown(report_of(self.latest_run()))

    def rule_set(self, rule_set_id: str) -> dict[str, Any]:
        """The rule set of an id that this home knows, its texts made harmless.

        Raises:
            UnusableInputError: it knows none of that id.
        """
        from routing_pipeline.rules.in_words import found_as
        from routing_pipeline.rules.record import is_id

        proposal = self.record.proposal(rule_set_id) if is_id(rule_set_id) else None
        if proposal is not None:
            return self._current(self._harmless(proposal.rule_set.model_dump()))
        # Other code may have found other rules in the same window since.
        stored = found_as(self.home, rule_set_id)
        if stored is None:
            raise UnusableInputError(
                f"this home knows no such rule set; give {LATEST}, or the rule_set_id that optimize_routing_rules gave"
            )
        return dict(_without_null(self._harmless(stored.rule_set.model_dump())))

    def rule_set_status(self, rule_set_id: str) -> dict[str, Any]:
        """Where a rule set stands, with everything that was decided about it; changes nothing.

        Raises:
            UnusableInputError: none of that id was proposed by a run, or approved.
        """
        from routing_pipeline.report.rebuilding import report_of
        from routing_pipeline.rules.delivery import status_of_rules
        from routing_pipeline.rules.in_words import found_as
        from routing_pipeline.rules.record import is_id

        if rule_set_id != LATEST and not is_id(rule_set_id):
            raise UnusableInputError(f"give {LATEST}, or the rule_set_id of a report")
        found = report_of(self.latest_run()).routing_rules if rule_set_id == LATEST else found_as(self.home, rule_set_id)
        if found is not None and not found.rule_set.rules:
            status = status_of_rules(self.record, found.rule_set)
            status = status.model_copy(update={"verdict": f"{status.verdict} What one would need is said by {REPORT}."})
        else:
            status = self.record.status(rule_set_id if found is None else found.rule_set.rule_set_id)
        return dict(self._harmless(status.model_dump()))

    # What arguments may be

    def known_rule_sets(self) -> tuple[str, ...]:
        """Ids of rule sets that were decided about or proposed last, newest first."""
        return tuple(rule_set.rule_set_id for rule_set, _ in self.record.promised())

    def known_task_types(self) -> tuple[str, ...]:
        """Task types of the newest report that may stand anywhere; none where there is no report."""
        try:
            found = json.loads(self.latest_run().content("report") or b"{}")
        except UnusableInputError:
            return ()
        return tuple(sorted(name for name in found.get("scope", {}).get("task_types", ()) if is_plain(name)))

    def _harmless(self, content: Any) -> Any:
        """What was computed earlier, or an error: with the names that its texts mention of what the lake holds now between the marks."""
        from routing_pipeline.serving.mcp.log_names import mentioned

        newest_s = Lake(self.home).newest_s()
        names = () if newest_s is None else mentioned(self.home, self.engine_name, newest_s - NAMES_OF_S, newest_s, texts_in(content))
        return to_jsonable_python(mark_untrusted(content, names))

    def _dated(self, answer: Answer) -> Answer:
        """With the status that its rule set has now: that changes while what was computed stays the same."""
        rules = answer.structured.get("rule_set")
        if not isinstance(rules, dict) or "status" not in rules:
            return answer
        dated = {**answer.structured, "rule_set": {**rules, "status": self._current(rules)["status"]}}
        if isinstance(options := answer.structured.get("options"), list):
            dated["options"] = [self._option_dated(each) for each in options]
        return replace(answer, structured=dated)

    def _option_dated(self, option: Any) -> Any:
        rules = option.get("rule_set") if isinstance(option, dict) else None
        if not isinstance(rules, dict) or "status" not in rules:
            return option
        return {**option, "rule_set": {**rules, "status": self._current(rules)["status"]}}

    def _current(self, rules: dict[str, Any]) -> dict[str, Any]:
        """With the status that the record gives it; as it is where the record does not know it."""
        from routing_pipeline.rules.lifecycle import STATUS_IN_RULES

        found = rules["rule_set_id"]
        if rules["rules"] and self.record.proposal(found) is not None:
            rules = {**rules, "status": STATUS_IN_RULES[self.record.status(found).state]}
        return dict(_without_null(rules))

    # Addresses

    def _resolved(self, question: Question) -> Question:
        """`latest` by the id that it stands for now, so that a newer report is another question."""
        if question.also.get("rules") != LATEST:
            return question
        content = json.loads(self.latest_run().content("report") or b"{}")
        return replace(question, also={**question.also, "rules": content["routing_rule_set"]["rule_set_id"]})

    def _key(self, question: Question) -> str:
        lake = Lake(self.home).version()
        if lake is None:
            raise UnusableInputError("the lake is empty; ingest logs first (routing-pipeline ingest --logs URI)")
        return key_of(
            tool=question.tool,
            lake=lake,
            catalog=Catalog(question.parameters.models).version,
            parameters=question.parameters.model_dump(mode="json"),
            also=question.also,
            engine=self.engine_name,
            code=code_key(COMPUTING),
        )

    def _computing(self) -> Computing:
        if self._computer is None:
            from routing_pipeline.serving.mcp.computing import Computing

            self._computer = Computing(self.home, self.engine_name)
        return self._computer


def _without_null(content: Any) -> Any:
    """As rules.json has it: a condition that is not there is missing, never null."""
    if isinstance(content, dict):
        return {key: _without_null(value) for key, value in content.items() if value is not None}
    return [_without_null(each) for each in content] if isinstance(content, list) else content
