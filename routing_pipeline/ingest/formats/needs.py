"""What a request asks of a model, from the parts of it that a log shows: content of other kinds than text, tools, structured output, limits, effort, tier.

Belongs here: the spellings of the providers' interfaces, as SQL that keeps a flag, a number or a word. Does not belong here:
where a format keeps the request. Content is looked at for its types only and never leaves the expression.

A flag is true where the log shows the need, false where it shows the request and the need is not in it, null otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from routing_pipeline.ingest.formats.log_format import json_list, json_texts, where

REDACTED = "redacted-by-litellm"
"""What stands in the place of content that a gateway was told not to log."""

LIMITS = (
    *("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample", "maxOutputTokens", "maxTokens"),
    *("generationConfig.maxOutputTokens", "generation_config.max_output_tokens", "inferenceConfig.maxTokens"),
)
EFFORTS = (
    *("reasoning_effort", "reasoning.effort", "output_config.effort", "generationConfig.thinkingConfig.thinkingLevel"),
    *("reasoningEffort", "effort"),
)
_STRUCTURED = "(?i)json_schema|json_object|json|schema|grammar|application/json"
PARTS = '"type": *"(input_)?{0}|(ype|_type)": *"{0}/|"{0}": *[{{] *"(format|source)"'
"""Pattern of a part of messages in the providers' spellings (`type`, `mimeType`, `mime_type`, `media_type`; Bedrock names the part itself). Within
JSON a text that quotes one has its quotation marks escaped, and is none."""
_CONTENTS = ("messages", "input", "contents", "prompt")
_TOOLS = ("tools", "functions", "toolConfig.tools")
_MODALITIES = ("modalities", "generationConfig.responseModalities")
_SCHEMA_TYPES = (
    *("response_format.type", "text.format.type", "output_format.type", "output_config.format.type"),
    *("generationConfig.responseMimeType", "generation_config.response_mime_type"),
)
_SCHEMAS = ("generationConfig.responseSchema", "generationConfig.responseJsonSchema")
_TIERS = ("service_tier", "serviceTier", "usage.service_tier")


def shown(is_true: str, is_shown: str) -> str:
    """A need that is true by one condition, and false where it is not true though another says that the log would show it."""
    return f"greatest(nullif({is_true}, false), CASE WHEN {is_shown} THEN false END)"


def is_listed(given: str) -> str:
    """Whether a field that holds JSON as text holds something: null, empty lists, objects and texts are nothing."""
    return f"""NOT regexp_full_match({given}, '(""|\\[ *\\]|\\{{ *\\}}|null)?')"""


def is_structured(kind: str) -> str:
    """Whether an output format by its type is structured."""
    return f"regexp_full_match({kind}, '{_STRUCTURED}')"


def effort(given: str) -> str:
    """An effort in its word; a budget of tokens is no effort."""
    return f"CASE WHEN TRY_CAST({given} AS DOUBLE) IS NULL THEN lower({given}) END"


def service_tier(*given: str) -> str:
    """The first tier that is one, the used one before the one that was asked for; `auto` leaves the choice and says nothing."""
    said = ", ".join(f"nullif(nullif(lower({each}), 'auto'), '')" for each in given)
    of_google = f"regexp_replace(coalesce({said}), '^on_demand_', '')"
    return f"regexp_replace({of_google}, '^(standard|standard_only|on_demand)$', 'default')"


def is_said(content: str) -> str:
    """Whether messages, a prompt or a list of its parts (as text) are there, and were not struck out."""
    return f"({is_listed(content)} AND NOT (strlen({content}) < 500 AND contains({content}, '{REDACTED}')))"


def carried(content: str, what: str, tokens: str = "NULL::DOUBLE", others: str = "NULL::BOOLEAN") -> str:
    """Whether a request carries an image or audio: by the types of its parts, by its count of such tokens, or by another sign of it.

    Args:
        content: SQL for messages or parts of them as text; empty where there is nothing but text, null where they are not logged.
        what: `image` or `audio`.
        tokens: SQL for the number of such tokens; null where nobody counted.
        others: SQL for the other sign.
    """
    return f"greatest(regexp_matches({content}, '{PARTS.format(what)}'), {tokens} > 0, nullif({others}, false))"


def any_of(*conditions: str) -> str:
    """Whether one of the conditions holds; those that cannot be told do not."""
    return "(" + " OR ".join(f"coalesce({condition}, false)" for condition in conditions) + ")"


def contains_any(given: str, *words: str) -> str:
    """Whether a text holds one of some words, in any case."""
    return any_of(*(f"contains(lower({given}), '{word}')" for word in words))


def of_body(body: str, answer: str = "NULL::VARCHAR") -> dict[str, str]:
    """Every need by its column, from a request's body as a gateway keeps it beside the log, in any of the providers' interfaces.

    Args:
        body: SQL for the body as JSON text; what it asks is not known where it holds no messages, input or prompt.
        answer: The same of the answer, which names the tier that was used.
    """
    # As JSON, so that what a text quotes stays escaped.
    parts = ", ".join(f"nullif(said[{place}]::VARCHAR, 'null')" for place in range(1, len(_CONTENTS) + 1))
    paths = ", ".join(f"'$.{name}'" for name in _CONTENTS)
    parts = where("said", f"json_extract(CASE WHEN json_valid({body}) THEN {body} END, [{paths}])", f"concat_ws(' ', {parts})")
    content = where("content", parts, f"CASE WHEN {is_said('content')} THEN content END")
    speaks = _asked(body, _MODALITIES, lambda given: contains_any(given, '"audio"'))
    tools = _asked(body, _TOOLS, is_listed)
    schemas = any_of(_asked(body, _SCHEMA_TYPES, is_structured), _asked(body, _SCHEMAS, is_listed))
    return {
        "has_image": carried(content, "image"),
        "has_audio": carried(content, "audio", others=speaks),
        "has_tools": shown(tools, f"{content} IS NOT NULL"),
        "has_schema": shown(schemas, f"{content} IS NOT NULL"),
        "max_output_tokens": _first(body, LIMITS),
        "reasoning_effort": effort(_first(body, EFFORTS)),
        "service_tier": service_tier(*_each(answer, _TIERS), *_each(body, _TIERS)),
    }


def _each(body: str, paths: Sequence[str]) -> list[str]:
    return list(json_texts(body, paths).values())


def _first(body: str, paths: Sequence[str]) -> str:
    """What stands under the first path that there is."""
    return f"list_filter({json_list(body, paths)}, lambda each: each IS NOT NULL)[1]"


def _asked(body: str, paths: Sequence[str], condition: Callable[[str], str]) -> str:
    """Whether a condition holds for what stands under one of the paths."""
    return f"len(list_filter({json_list(body, paths)}, lambda each: coalesce({condition('each')}, false))) > 0"
