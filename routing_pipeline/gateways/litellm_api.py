"""LiteLLM's own interface: what it would load, asked before a step is recorded, and what it has loaded.

Belongs here: the two questions and what their failures mean. Does not belong here: the configuration (`litellm`), when it is written (`rollout`).

The interface takes no classifier: LiteLLM loads one from its configuration's folder alone, and refuses the name of one here. So the files go
there, and the running proxy reads the rules again by itself; the interface judges all else of what is to be loaded with the router's own
model, and says which tiers run.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from routing_pipeline.errors import ServiceUnavailableError, UnusableInputError
from routing_pipeline.gateways.exported import read_yaml
from routing_pipeline.gateways.litellm import router_settings

KEY = "LITELLM_MASTER_KEY"
TIMEOUT_S = 20.0
LONGEST_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True)
class LiteLLMApi:
    """A running proxy."""

    url: str
    key: str = field(repr=False)

    def check(self, configuration: str) -> None:
        """Ask whether it would load the router of a configuration.

        Raises:
            UnusableInputError: it would not, for the reason that it gives; or it may not be asked.
            ServiceUnavailableError: it does not answer.
        """
        why = self.refused(router_settings(read_yaml(configuration, "the configuration")))
        if why is not None:
            raise UnusableInputError(f"LiteLLM would not load this: {why[:500]}; nothing was recorded or written")

    def refused(self, settings: Mapping[str, Any]) -> str | None:
        """Why it would not load a router's `complexity_router_config`; None where it would."""
        answer = self._asked("/auto_router/validate_complexity_router_config", {"complexity_router_config": _without_classifier(settings)})
        if answer.get("valid") is True:
            return None
        return str(answer.get("error") or "it gives no reason")

    def has_loaded(self, configuration: str) -> bool:
        """Whether the router that runs has every tier of a configuration's; where it has not, it must be started anew."""
        wanted = router_settings(read_yaml(configuration, "the configuration")).get("tiers") or {}
        listed = self._asked("/model/info", None).get("data") or []
        running = [((each.get("litellm_params") or {}).get("complexity_router_config") or {}).get("tiers") or {} for each in listed]
        return any(set(wanted) <= set(tiers) for tiers in running if tiers)

    def _asked(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        # Only http and https: the settings refuse all else.
        request = urllib.request.Request(self.url.rstrip("/") + path, data=content, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                found = json.loads(answer.read(LONGEST_ANSWER))
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise UnusableInputError(f"{self.url}: does not accept the key in {KEY}; give the proxy's master key") from error
            if error.code == 404:
                raise UnusableInputError(
                    f"{self.url}: this LiteLLM cannot be asked ({path} is not there); leave [rollout] api out"
                ) from error
            raise ServiceUnavailableError(f"{self.url}{path}: answered {error.code}; try again later") from error
        except (OSError, ValueError) as error:
            raise ServiceUnavailableError(f"{self.url}{path}: does not answer ({type(error).__name__}); try again later") from error
        if not isinstance(found, dict):
            raise ServiceUnavailableError(f"{self.url}{path}: answered something that is no object; is it LiteLLM?")
        return found


def _without_classifier(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same with a model in the place of the classifier: what else may have tiers of its own, and may be asked about."""
    if settings.get("classifier_type") != "custom":
        return dict(settings)
    model = next(iter((settings.get("tiers") or {}).values()), "")
    rest = {name: value for name, value in settings.items() if name != "classifier_plugin"}
    return {**rest, "classifier_type": "llm", "classifier_llm_config": {"model": model}}
