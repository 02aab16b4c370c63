"""One module per log format; the first that recognises a record wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.ingest.formats.canonical import CANONICAL
from routing_pipeline.ingest.formats.envoy_ai_gateway import ENVOY_AI_GATEWAY
from routing_pipeline.ingest.formats.helicone import HELICONE
from routing_pipeline.ingest.formats.kong import KONG
from routing_pipeline.ingest.formats.langfuse import LANGFUSE, LANGFUSE_SCORES
from routing_pipeline.ingest.formats.langfuse_api import LANGFUSE_API, LANGFUSE_API_SCORES
from routing_pipeline.ingest.formats.litellm import LITELLM
from routing_pipeline.ingest.formats.litellm_spend_logs import LITELLM_SPEND_LOGS
from routing_pipeline.ingest.formats.log_format import LogFormat, ScoreFormat
from routing_pipeline.ingest.formats.mapping import read_mapping
from routing_pipeline.ingest.formats.openinference import OPENINFERENCE
from routing_pipeline.ingest.formats.openrouter import OPENROUTER
from routing_pipeline.ingest.formats.otlp import OTLP, OTLP_SCORES
from routing_pipeline.ingest.formats.portkey import PORTKEY
from routing_pipeline.ingest.formats.vllm_sr import VLLM_SR

FORMATS: tuple[LogFormat, ...] = (
    CANONICAL,
    LITELLM,
    LITELLM_SPEND_LOGS,
    OTLP,
    OPENINFERENCE,
    LANGFUSE,
    LANGFUSE_API,
    PORTKEY,
    OPENROUTER,
    HELICONE,
    ENVOY_AI_GATEWAY,
    KONG,
    VLLM_SR,
)
SCORE_FORMATS: tuple[ScoreFormat, ...] = (OTLP_SCORES, LANGFUSE_SCORES, LANGFUSE_API_SCORES)


SHARING: dict[str, tuple[LogFormat, ...]] = {OTLP.name: (OTLP, OPENINFERENCE)}
"""Formats whose records stand in the documents of another one."""


def named(name: str) -> LogFormat | None:
    """The format of that name, or that a TOML file describes; None for `auto`.

    Raises:
        UnusableInputError: no format has that name, or the file describes none.
    """
    if name == "auto":
        return None
    if name.endswith(".toml"):
        described = read_mapping(Path(name))
        if any(each.name == described.name for each in FORMATS):
            raise UnusableInputError(f"--format {name}: {described.name} is the name of a format already; give another")
        return described
    for each in FORMATS:
        if each.name == name:
            return each
    names = sorted(each.name for each in FORMATS)
    raise UnusableInputError(f"--format {name}: give auto, {', '.join(names)}, or a TOML file{did_you_mean(name, ('auto', *names))}")


def recognised(record: Mapping[str, Any]) -> LogFormat | None:
    """The format that a record's keys speak of; None when no format knows them."""
    return next((each for each in FORMATS if each.recognises(record)), None)


def readers(log_format: LogFormat) -> tuple[LogFormat, ...]:
    """The formats whose records a document of this format may hold, itself first."""
    return SHARING.get(log_format.name, (log_format,))


def scored_by(record: Mapping[str, Any]) -> ScoreFormat | None:
    """The tool whose scores a record holds; None when it is a score of schema.FEEDBACK, or none at all."""
    return next((each for each in SCORE_FORMATS if any(keys <= record.keys() for keys in each.keys)), None)
