"""Whether the router answers: asked once before an analysis.

Belongs here: the table `[router]` of the configuration, and one request to its health address. Does not belong here: what an
analysis does when it does not answer (`resolve.last_analysis`), and trying again later (the asset `analysis_scope`).
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.parameters import read_table, refusal

LONGEST_REASON = 120


class RouterConfig(BaseModel):
    """Table `[router]`: where the router says that it is well, and how often an analysis waits for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    health_url: str = Field(description="Answers a GET with a status below 400 when the router is well")
    timeout_s: float = Field(default=5.0, gt=0, le=60)
    retries: int = Field(default=3, ge=0, le=20, description="How often a scheduled analysis tries again before it takes what is stored")
    retry_after_minutes: float = Field(default=10.0, ge=0, le=240)


class RouterHealth(Result):
    """What the router said."""

    url: str = Field(description="Without its query")
    is_healthy: bool
    asked_at: datetime = Field(description="UTC")
    answered_ms: float | None = quantity("Until the answer; null when there was none", "ms")
    detail: str


def read_router(config: Path | None) -> RouterConfig | None:
    """The table `[router]`; None when there is none, and then nobody asks.

    Raises:
        UnusableInputError: the file cannot be read, or the table holds something else.
    """
    table = read_table(config, "router")
    if not table:
        return None
    try:
        found = RouterConfig.model_validate(table)
    except ValidationError as error:
        raise UnusableInputError(refusal(error, RouterConfig, "router")) from error
    parts = urlsplit(found.health_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise UnusableInputError("router.health_url: give http://host:port/path, without credentials")
    return found


def ask(router: RouterConfig) -> RouterHealth:
    """GET the health address once; never raises for what it finds."""
    parts = urlsplit(router.health_url)
    began, answered_ms = time.monotonic(), None
    try:
        # Only http and https come through read_router.
        with urllib.request.urlopen(router.health_url, timeout=router.timeout_s) as answer:  # noqa: S310
            is_healthy, detail = answer.status < 400, f"status {answer.status}"
        answered_ms = (time.monotonic() - began) * 1000
    except urllib.error.HTTPError as error:
        is_healthy, detail, answered_ms = False, f"status {error.code}", (time.monotonic() - began) * 1000
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        is_healthy, detail = False, str(getattr(reason, "strerror", None) or reason or type(error).__name__)[:LONGEST_REASON]
    return RouterHealth(
        url=f"{parts.scheme}://{parts.netloc}{parts.path}",
        is_healthy=is_healthy,
        asked_at=datetime.now(UTC),
        answered_ms=answered_ms,
        detail=detail,
    )
