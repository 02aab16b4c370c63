"""The gateways by name, and whose configuration a file is.

Belongs here: the table. Does not belong here: anything about one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.gateways import bifrost, envoy, json_logic, litellm, portkey, vllm_sr
from routing_pipeline.gateways.exported import Exported, laid_out, read_yaml
from routing_pipeline.gateways.planned import Plan
from routing_pipeline.gateways.read_back import named_once


@dataclass(frozen=True)
class Gateway:
    """What can be done with one gateway."""

    write: Callable[[Plan, str | None, str | None], Exported]
    """A plan, the configuration that runs and the model for what no rule decides, as files."""
    read: Callable[[str, Path], list[dict[str, Any]]]
    """The text of a configuration and its folder, as rules that `rules.reading` takes."""
    recognises: Callable[[Any], bool]
    """Whether parsed content is its configuration."""
    withdrawn: Callable[[Mapping[str, str]], dict[str, str]] = lambda _: {}
    """What lies beside its configuration when none of our rules is followed, from what was exported."""


def _beside(write: Callable[[Plan, str | None, str | None], Exported]) -> Callable[[Plan, str | None, str | None], Exported]:
    """Writing beside what runs, which is refused where it is no such configuration throughout; without it every error is ours."""

    def written(plan: Plan, current: str | None, default_model: str | None) -> Exported:
        with nullcontext() if current is None else laid_out("--current"):
            return write(plan, current, default_model)

    return written


def _alone(read: Callable[[str], list[dict[str, Any]]]) -> Callable[[str, Path], list[dict[str, Any]]]:
    """Reading of a gateway that has its rules in its configuration itself."""
    return lambda text, _: read(text)


GATEWAYS: dict[str, Gateway] = {
    litellm.NAME: Gateway(_beside(litellm.write), litellm.read, litellm.recognises, litellm.withdrawn),
    portkey.NAME: Gateway(_beside(portkey.write), _alone(portkey.read), portkey.recognises),
    vllm_sr.NAME: Gateway(_beside(vllm_sr.write), _alone(vllm_sr.read), vllm_sr.recognises),
    envoy.NAME: Gateway(_beside(envoy.write), _alone(envoy.read), envoy.recognises),
    bifrost.NAME: Gateway(_beside(bifrost.write), _alone(bifrost.read), bifrost.recognises),
    json_logic.NAME: Gateway(_beside(json_logic.write), _alone(json_logic.read), json_logic.recognises),
}


def gateway_of(name: str) -> Gateway:
    """A gateway by its name.

    Raises:
        UnusableInputError: there is none of that name.
    """
    if name not in GATEWAYS:
        raise UnusableInputError(f"--gateway {name[:40]}: one of {', '.join(GATEWAYS)}{did_you_mean(name, GATEWAYS)}")
    return GATEWAYS[name]


def rules_of_configuration(path: Path) -> list[dict[str, Any]] | None:
    """The rules that a gateway's configuration follows; None where the file is no such configuration.

    Raises:
        UnusableInputError: it is one, but what it does cannot be said as rules about fields of the log.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        # JSON is YAML.
        content = read_yaml(text, str(path))
    except (OSError, UnicodeDecodeError, UnusableInputError):
        return None
    gateway = next((each for each in GATEWAYS.values() if each.recognises(content)), None)
    if gateway is None:
        return None
    with laid_out(str(path)):
        rules = named_once(gateway.read(text, path.parent))
    if not rules:
        raise UnusableInputError(f"{path}: holds no rules, so there is nothing to judge")
    return rules
