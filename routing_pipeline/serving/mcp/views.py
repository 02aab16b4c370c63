"""What clients show beside the answers: the icon, the App that draws the frontier, completions of arguments.

Belongs here: what is for people's eyes or keys. Does not belong here: tools and resources (`server`), what they answer (`answers`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from importlib import resources
from typing import Any

from mcp.server.apps import EXTENSION_ID, Apps
from mcp.types import Completion, Icon

from routing_pipeline.parameters import GOALS, TIMEFRAMES
from routing_pipeline.serving.mcp.answers import Answers
from routing_pipeline.serving.mcp.tools import LATEST

__all__ = ["EXTENSION_ID", "FRONTIER", "SHOWS_THE_FRONTIER", "apps", "completed", "icon"]

FRONTIER = "ui://routing-pipeline/frontier.html"
SHOWS_THE_FRONTIER = "optimize_routing_rules"
"""The tool whose answer the App draws, in clients that show one."""
MOST_COMPLETIONS = 100
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#2a7f62" stroke-width="2" stroke-linecap="round">'
    '<path d="M3 12h5c4 0 3-7 8-7h3M8 12c4 0 3 7 8 7h3"/><circle cx="21" cy="5" r="1.5"/><circle cx="21" cy="19" r="1.5"/></svg>'
)


def icon() -> Icon:
    """One way in, two ways out."""
    return Icon(src=f"data:image/svg+xml;base64,{base64.b64encode(_ICON.encode()).decode()}", mime_type="image/svg+xml", sizes=["any"])


def apps() -> Apps:
    """The App that draws the candidates of a proof; it loads nothing and reaches nowhere."""
    made = Apps()
    html = resources.files("routing_pipeline.serving.mcp").joinpath("apps/frontier.html").read_text(encoding="utf-8")
    made.add_html_resource(FRONTIER, html, name="frontier", title="Cost against quality", prefers_border=True)
    return made


def completed(answers: Answers, argument: str, begun: str) -> Completion:
    """Values of an argument of the prompt or of a resource that begin so."""
    words: dict[str, Any] = {
        "analysis_timeframe": lambda: TIMEFRAMES,
        "optimization_goal": lambda: GOALS,
        "task_types": answers.known_task_types,
        "rule_set_id": lambda: (LATEST, *answers.known_rule_sets()),
    }
    found: Iterable[str] = words[argument]() if argument in words else ()
    # Of a list, the last one is being written.
    before, comma, last = begun.rpartition(",") if argument == "task_types" else ("", "", begun)
    matching = [f"{before}{comma}{each}" for each in found if each.startswith(last.strip())]
    return Completion(values=matching[:MOST_COMPLETIONS], total=len(matching), has_more=len(matching) > MOST_COMPLETIONS)
