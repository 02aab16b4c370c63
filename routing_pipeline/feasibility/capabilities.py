"""What models can read and offer, and how long prompts and answers may be, as a list of models says it.

Belongs here: the bundled list (of models.dev, MIT; `NOTICE`), models.dev's own `api.json` in its place, finding a model in
either, and the user's overrides. Does not belong here: what the logs teach (`learned`), whether a request can be served
(`feasible`), prices (`catalog`).

Null everywhere means that the list does not say.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from routing_pipeline.catalog import names_of
from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import ModelOverride

BUNDLED = Path(__file__).with_name("model_capabilities.csv")
BUNDLED_MD5 = "3ea98a59a5baa0bb99f2e2a43bcfa19a"
"""Of the bundled list: results are kept under their code, which this makes the list a part of."""

_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "aws": ("amazon-bedrock",),
    "bedrock": ("amazon-bedrock",),
    "azure": ("azure", "azure-cognitive-services"),
    "google": ("google", "google-vertex"),
    "gemini": ("google",),
    "vertex_ai": ("google-vertex", "google-vertex-anthropic", "google"),
    "fireworks": ("fireworks-ai",),
    "fireworks_ai": ("fireworks-ai",),
    "together": ("togetherai",),
    "together_ai": ("togetherai",),
    "x-ai": ("xai",),
    "moonshotai": ("moonshotai",),
}
"""What price lists and gateways call a provider, and what models.dev does; the same name where it is not here."""
_MAKERS: tuple[str, ...] = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "xai",
    "deepseek",
    "cohere",
    "alibaba",
    "moonshotai",
    "zai",
    "minimax",
)
"""Who offers a model of its own knows it better than those that sell it on."""
_REGION = re.compile(r"^(?:us|eu|apac|au|jp|global)\.")
_VENDOR = re.compile(r"^(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|openai)\.")
_REVISION = re.compile(r"-v\d+(?::\d+)?$")
_DATED = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d)$")


@dataclass(frozen=True)
class Capabilities:
    """What one model can serve; None where nothing is known. Tokens: most that a prompt with its answer, a prompt, an answer may have."""

    image: bool | None = None
    audio: bool | None = None
    tools: bool | None = None
    schema: bool | None = None
    context_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


_NOTHING = Capabilities()
_Listed = Mapping[str, Mapping[str, Capabilities]]
"""Capabilities by the model's name in small letters, then by provider."""


class CapabilityList:
    """A list of models under the user's overrides."""

    def __init__(self, overrides: Mapping[str, ModelOverride], file: Path | None = None) -> None:
        self.overrides, self.listed = overrides, _bundled() if file is None else _api(str(file), file.stat().st_mtime_ns)

    def of(self, name: str, *, provider: str | None = None, provider_model: str | None = None) -> Capabilities:
        """What is known of a model by the name that the gateway routes by; provider and provider_model as logged, as for its price."""
        override = self.overrides.get(name, ModelOverride())
        served_by = override.provider or provider
        found = _found(self.listed, names_of(override.provider_model or provider_model or name, served_by))
        told: dict[str, Any] = {
            "image": override.image,
            "audio": override.audio,
            "tools": override.tools,
            "schema": override.schema_,
            "context_tokens": override.context_tokens or override.context_window,
            "output_tokens": override.output_tokens,
        }
        return replace(found, **{key: value for key, value in told.items() if value is not None})


def _found(listed: _Listed, candidates: Iterable[tuple[str, str | None]]) -> Capabilities:
    """At the provider, else at the model's maker, else what all that offer it agree on; each under the first name that is there."""
    named = [
        (provider, listed[spelled]) for reference, provider in candidates for spelled in _spellings(reference.lower()) if spelled in listed
    ]
    own = [offers[each] for provider, offers in named if provider for each in _PROVIDERS.get(provider, (provider,)) if each in offers]
    made = [offers[each] for _, offers in named for each in _MAKERS if each in offers]
    agreed = [_agreed(offers.values()) for _, offers in named[:1]]
    return next(iter([*own, *made, *agreed]), _NOTHING)


def _spellings(name: str) -> tuple[str, ...]:
    """A name as logged, then without region, maker and revision, then without its date."""
    plain = _REVISION.sub("", _VENDOR.sub("", _REGION.sub("", name)))
    return tuple(dict.fromkeys((name, _REGION.sub("", name), plain, _DATED.sub("", plain))))


def _agreed(offers: Iterable[Capabilities]) -> Capabilities:
    """What none of those that say anything denies; of limits, the least."""
    every = list(offers)
    agreed: dict[str, Any] = {}
    for name in (field.name for field in fields(Capabilities)):
        said = [value for value in (getattr(each, name) for each in every) if value is not None]
        # False is less than True: one that denies it decides.
        agreed[name] = min(said, default=None)
    return Capabilities(**agreed)


def _flag(said: str) -> bool | None:
    return {"true": True, "false": False}.get(said)


def _count(said: str) -> int | None:
    return int(said) if said.isdigit() and int(said) > 0 else None


def _by_name(rows: Iterable[tuple[str, str, Capabilities]]) -> _Listed:
    listed: dict[str, dict[str, Capabilities]] = {}
    for provider, model, found in rows:
        low = model.lower()
        for name in dict.fromkeys((low, low.rsplit("/", 1)[-1])):
            listed.setdefault(name, {}).setdefault(provider, found)
    return listed


@lru_cache(maxsize=1)
def _bundled() -> _Listed:
    with BUNDLED.open(encoding="utf-8", newline="") as file:
        return _by_name(
            (
                row["provider"],
                row["model"],
                Capabilities(
                    image="image" in row["input_modalities"].split("|") if row["input_modalities"] else None,
                    audio="audio" in row["input_modalities"].split("|") if row["input_modalities"] else None,
                    tools=_flag(row["tool_call"]),
                    schema=_flag(row["structured_output"]),
                    context_tokens=_count(row["context_tokens"]),
                    input_tokens=_count(row["input_tokens_limit"]),
                    output_tokens=_count(row["output_tokens_limit"]),
                ),
            )
            for row in csv.DictReader(file)
        )


@lru_cache(maxsize=4)
def _api(path: str, modified_ns: int) -> _Listed:
    """models.dev's api.json: providers by id, each with its models by id.

    Raises:
        UnusableInputError: the file is something else.
    """
    del modified_ns
    try:
        content = json.loads(Path(path).read_bytes())
        return _by_name((provider, model, _of_api(said)) for provider, each in content.items() for model, said in each["models"].items())
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UnusableInputError(
            f"--capabilities {path}: not the api.json of models.dev; take it from https://models.dev/api.json"
        ) from error


def _of_api(said: Mapping[str, Any]) -> Capabilities:
    reads, limit = said.get("modalities", {}).get("input"), said.get("limit", {})

    def flag(key: str) -> bool | None:
        return said[key] if isinstance(said.get(key), bool) else None

    return Capabilities(
        image=None if reads is None else "image" in reads,
        audio=None if reads is None else "audio" in reads,
        tools=flag("tool_call"),
        schema=flag("structured_output"),
        context_tokens=limit.get("context") or None,
        input_tokens=limit.get("input") or None,
        output_tokens=limit.get("output") or None,
    )
