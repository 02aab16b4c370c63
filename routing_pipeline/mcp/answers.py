"""One answer per question: from the store when the same was asked of the same data, else computed and stored.

Belongs here: the address of an answer, rule sets that are named instead of handed over, and what is stored of a report.
Does not belong here: computing (`computing`, loaded when first needed), the protocol (`server`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from routing_pipeline.catalog import Catalog
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.home import Home
from routing_pipeline.ingest.lake import Lake
from routing_pipeline.mcp.inert import inert, unmarked
from routing_pipeline.mcp.tools import LATEST, Question, Tool
from routing_pipeline.parameters import Parameters
from routing_pipeline.results import StoredRun, code_version, key_of
from routing_pipeline.rule_sets.life_cycle import STATUS_IN_RULES
from routing_pipeline.rule_sets.record import RuleSetRecord, is_id, record_of

if TYPE_CHECKING:
    from routing_pipeline.mcp.computing import Computing

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """What a tool gives: text for people, the result for programs, and where it comes from."""

    text: str
    structured: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    """Window, snapshot, what was left out."""
    source: Literal["store", "computed"] = "store"


class Answers:
    """Answers about one home; `base` is what the server was started with, the arguments of a call win over it."""

    def __init__(
        self, home: Home, base: Parameters | None = None, engine_name: str = "duckdb", record: RuleSetRecord | None = None
    ) -> None:
        self.home, self.base, self.engine_name = home, base or Parameters(), engine_name
        self.record = record or record_of(home)
        self._computer: Computing | None = None

    def answer(self, tool: Tool, arguments: Mapping[str, Any], progress: Progress | None = None) -> Answer:
        """The answer to one call.

        Raises:
            PipelineError: the arguments, or the data, cannot be used; the message is one line that says what to do.
        """
        question = self._resolved(tool.question(unmarked(dict(arguments)), self.base))
        key = self._key(question)
        stored = self.home.results.load_answer(key)
        if stored is not None:
            return self._dated(Answer(stored["text"], stored["structured"], stored["about"]))
        answer = self._computing().answer(tool, question, progress)
        # Asked again: rows or scores that came while it was computed belong to the next answer.
        if key == self._key(question):
            self.home.results.save_answer(key, {"text": answer.text, "structured": answer.structured, "about": answer.about})
        return replace(self._dated(answer), source="computed")

    def schema_of(self, tools: tuple[Tool, ...]) -> dict[str, dict[str, Any]]:
        """JSON Schema of each tool's structured output, by tool; stored, because the models take seconds to load."""
        key = key_of(schemas=[tool.name for tool in tools], code=code_version())
        stored = self.home.results.load_answer(key)
        if stored is None:
            stored = self._computing().schemas(tools)
            self.home.results.save_answer(key, stored)
        return stored

    # What earlier runs left

    def latest_run(self) -> StoredRun:
        """The run that made the newest report.

        Raises:
            UnusableInputError: no report has been made yet.
        """
        newest = self.home.results.latest_run()
        if newest is None:
            raise UnusableInputError(
                "this home holds no report yet; let routing-pipeline run or analyze make one, or ask optimize_routing_rules and pass its rule_set_id"
            )
        return newest

    def latest_report(self) -> dict[str, Any]:
        """report.json of the newest run, its texts made harmless."""
        content = json.loads(self.latest_run().content("report") or b"{}")
        return dict(inert(content))

    def latest_rule_set(self) -> dict[str, Any]:
        """rules.json of the newest run with the status that it has now, its texts made harmless."""
        return self._current(self.latest_report()["routing_rule_set"])

    def latest_markdown(self) -> str:
        """report.md of the newest run, which escapes what logs say by itself."""
        return self._computing().markdown(self.latest_run())

    def rule_set(self, rule_set_id: str) -> dict[str, Any]:
        """The rule set of an id that this home knows, its texts made harmless.

        Raises:
            UnusableInputError: it knows none of that id.
        """
        proposal = self.record.proposal(rule_set_id) if is_id(rule_set_id) else None
        if proposal is not None:
            return self._current(inert(proposal.rule_set.model_dump(mode="json")))
        results = self.home.results
        key = results.key_of_rule_set(rule_set_id)
        stored = None if key is None else results.content("routing_rules", key)
        if stored is None:
            raise UnusableInputError(
                f"this home knows no such rule set; give {LATEST}, or the rule_set_id that optimize_routing_rules gave"
            )
        return dict(_without_null(inert(json.loads(stored)["rule_set"])))

    def rule_set_status(self, rule_set_id: str) -> dict[str, Any]:
        """Where a rule set stands, with everything that was decided about it; changes nothing.

        Raises:
            UnusableInputError: none of that id was proposed by a run, or approved.
        """
        asked = self.latest_rule_set()["rule_set_id"] if rule_set_id == LATEST else rule_set_id
        if not is_id(asked):
            raise UnusableInputError(f"give {LATEST}, or the rule_set_id of a report")
        return dict(inert(self.record.status(asked).model_dump(mode="json")))

    def _dated(self, answer: Answer) -> Answer:
        """With the status that its rule set has now: that changes while what was computed stays the same."""
        rules = answer.structured.get("rule_set")
        if not isinstance(rules, dict) or "status" not in rules:
            return answer
        return replace(answer, structured={**answer.structured, "rule_set": {**rules, "status": self._current(rules)["status"]}})

    def _current(self, rules: dict[str, Any]) -> dict[str, Any]:
        """With the status that the record gives it; as it is where the record does not know it."""
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
            code=code_version(),
        )

    def _computing(self) -> Computing:
        if self._computer is None:
            from routing_pipeline.mcp.computing import Computing

            self._computer = Computing(self.home, self.engine_name)
        return self._computer


def _without_null(content: Any) -> Any:
    """As rules.json has it: a condition that is not there is missing, never null."""
    if isinstance(content, dict):
        return {key: _without_null(value) for key, value in content.items() if value is not None}
    return [_without_null(each) for each in content] if isinstance(content, list) else content
