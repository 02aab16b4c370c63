"""The lines that people read beside the structured content of an answer."""

from __future__ import annotations

from routing_pipeline.serving.mcp import text


def test_a_share_is_written_as_everywhere_else() -> None:
    told = {
        "dimension": "all",
        "value": None,
        "measured": "spend",
        "now": 12.0,
        "usual": 3.0,
        "since": "2026-11-19T14:00:00Z",
        "goes_on": False,
        "due_to": [{"dimension": "team", "value": "growth", "share": 0.982}],
        "effects_usd": {},
    }
    assert "; due to team `growth` (98 %)" in text._incident(told)
