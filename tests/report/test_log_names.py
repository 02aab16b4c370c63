"""Names from logs are a type, from the result to the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from routing_pipeline.report.markdown import _link, _show, _stressed, _unknown, escape
from routing_pipeline.report.model import Report
from routing_pipeline.report.rendering import Language, environment
from routing_pipeline.text import FROM_LOG, LogName

CALLED_LIKE_NAMES = frozenset(
    [
        "error_type",
        "fallbacks",
        "goes_to",
        "log_key",
        "model",
        "models",
        "object",
        "provider",
        "replacement",
        "rule_id",
        "score_key",
        "task_type",
        "task_types",
        "team",
        "teams",
        "tier",
    ]
)


def parts(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every field of every result in a schema: whose it is, its name, its own schema."""
    for owner, definition in {"Report": schema, **schema["$defs"]}.items():
        for name, part in definition.get("properties", {}).items():
            yield owner, name, part


def texts(part: Any) -> Iterator[dict[str, Any]]:
    """The places in a field's schema where a text stands that is no closed choice."""
    if isinstance(part, dict):
        if part.get("type") == "string" and not {"enum", "const", "format"} & part.keys():
            yield part
        for key, value in part.items():
            if key in {"items", "anyOf", "prefixItems", "propertyNames"}:
                yield from texts(value)
    elif isinstance(part, list):
        for each in part:
            yield from texts(each)


# What the user types is no log's: these are words of the configuration.
ASKED = {
    *(("Parameters", "task_types"), ("ModelOverride", "provider"), ("ModelOverride", "tier")),
    *(("Restriction", "teams"), ("Restriction", "task_types")),
}


def test_every_field_that_is_called_like_a_name_is_one_by_its_type() -> None:
    fields = [
        (owner, name, text)
        for owner, name, part in parts(Report.model_json_schema(mode="serialization"))
        for text in texts(part)
        if name in CALLED_LIKE_NAMES and (owner, name) not in ASKED
    ]
    assert len(fields) > 40
    assert [(owner, name) for owner, name, text in fields if not text.get(FROM_LOG)] == []


def test_a_report_that_is_read_back_knows_its_names_again(reports: dict[str, Any]) -> None:
    read = Report.model_validate_json(reports["full"]().model_dump_json())
    segment = read.routing_evidence.segments[0]
    assert {type(segment.task_type), type(segment.arms[0].model), type(read.scope.models[0])} == {LogName}
    assert read == reports["full"]()


def test_what_a_template_prints_is_shown_as_a_name_by_its_type_alone() -> None:
    language = Language(escape, _show, _unknown, _link, _stressed, lambda name: Markup("<{}>").format(name))
    page = environment(language).from_string("{{ ours }}: {{ name }}")
    assert page.render(ours="50% of *all*", name=LogName("x" * 100 + "*")) == f"50 % of \\*all\\*: <{'x' * 59}\N{HORIZONTAL ELLIPSIS}>"
