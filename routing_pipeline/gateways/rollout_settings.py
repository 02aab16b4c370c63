"""Table `[rollout]` of the configuration: whether a roll-out acts by itself, for which gateway, and where its configuration is written.

Belongs here: reading it. Does not belong here: what is done with it (`rollout`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

from routing_pipeline.errors import UnusableInputError, did_you_mean
from routing_pipeline.gateways import json_logic, litellm, litellm_api
from routing_pipeline.gateways.litellm_api import LiteLLMApi
from routing_pipeline.gateways.table import gateway_of
from routing_pipeline.parameters import read_table

MOST_CONTROL = 0.4
"""More would be no roll-out: half of the sessions are a step of its own."""


@dataclass(frozen=True)
class RolloutSettings:
    """As configured; without a gateway nothing is rolled out."""

    automatic: bool = False
    """Whether steps are taken, and taken back, without a person."""
    trust_proof: bool = False
    """Whether rules go on where the canary bears out what grade B promises, though it cannot tell by itself (`recommendation.canary`)."""
    control: float = 0.0
    """Share of the sessions that never follow the rules, so that what they bring stays measured and a later fall is noticed."""
    gateway: str = ""
    current: str = ""
    """File: what the gateway runs with when it follows none of our rules. A roll-back writes it; nothing ever changes it."""
    to: str = ""
    """Folder or `s3://bucket/prefix` that the gateway's configuration is written to; empty: `gateway` in the home."""
    default_model: str = ""
    """What serves requests that no rule decides, where one model does."""
    api: str = ""
    """Address of a running LiteLLM, which is then asked whether it would load a step before that is recorded; its key is in
    LITELLM_MASTER_KEY."""
    approval_days: float = 30.0
    """An approval that is older lets nothing go on by itself."""

    def current_text(self) -> str | None:
        """What the gateway runs with without our rules.

        Raises:
            UnusableInputError: it cannot be read.
        """
        if not self.current:
            return None
        try:
            return Path(self.current).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is no text"
            raise UnusableInputError(
                f"[rollout] current = {self.current}: {why}; name the configuration that a roll-back is to write"
            ) from error

    def running(self) -> LiteLLMApi | None:
        """The gateway that is asked; None where none is named.

        Raises:
            UnusableInputError: its key is not set.
        """
        if not self.api:
            return None
        if not os.environ.get(litellm_api.KEY):
            raise UnusableInputError(f"[rollout] api: the environment variable {litellm_api.KEY} is not set; put the proxy's key there")
        return LiteLLMApi(self.api, os.environ[litellm_api.KEY])


def read_rollout(config: Path | None) -> RolloutSettings:
    """The table, or what holds without it.

    Raises:
        UnusableInputError: the file cannot be read, or the table holds something else.
    """
    table = read_table(config, "rollout")
    names = {each.name: type(each.default) for each in fields(RolloutSettings)}
    for name, value in table.items():
        if name not in names:
            raise UnusableInputError(f"[rollout] {name[:60]} is not known here{did_you_mean(name, names)}; it takes {', '.join(names)}")
        wanted = (int, float) if names[name] is float else names[name]
        if not isinstance(value, wanted) or (isinstance(value, bool) and names[name] is not bool):
            kind = {bool: "true or false", str: "a text", float: "a number"}[names[name]]
            raise UnusableInputError(f"[rollout] {name}: give {kind}")
    found = RolloutSettings(**table)
    if not 0 < found.approval_days <= 3650:
        raise UnusableInputError("[rollout] approval_days: give a number of days above 0")
    if not 0 <= found.control <= MOST_CONTROL:
        raise UnusableInputError(f"[rollout] control: give a share of the sessions from 0 to {MOST_CONTROL:g}, as in control = 0.05")
    if found.api and (found.gateway != litellm.NAME or not re.fullmatch(r"https?://[^\s@]+", found.api)):
        raise UnusableInputError('[rollout] api: give the address of a LiteLLM proxy, as in api = "http://localhost:4000", without a key')
    if found.gateway:
        gateway_of(found.gateway)
        if not found.current and found.gateway != json_logic.NAME:
            raise UnusableInputError(
                "[rollout] current: name the configuration that the gateway runs with when it follows none of our rules; a roll-back writes it"
            )
    elif found.automatic:
        raise UnusableInputError('[rollout] gateway: name the gateway to update, as in gateway = "litellm"')
    return found
