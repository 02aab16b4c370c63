"""From a finished report to the files that users open, all of them or none.

Belongs here: rendering everything first. Does not belong here: what is in the files, how they get into their folder (`out_folder`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from routing_pipeline.report.charts.drawing import Chart, svg_of
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown
from routing_pipeline.report.model import Report, report_json
from routing_pipeline.report.out_folder import check_writable, put
from routing_pipeline.rules.model import RuleSet, rules_json


def publish(
    out: Path, report: Report, rule_set: RuleSet, exploration: RuleSet | None = None, svg_of: Callable[[Chart], str] = svg_of
) -> tuple[Path, ...]:
    """Write report.md, report.html, report.json, rules.json, and exploration.json where exploring would tell more.

    Everything is rendered and written beside its place before the first file is replaced: whatever fails before that
    leaves the files of the run before untouched. An exploration that no longer applies is removed.

    Raises:
        UnusableInputError: `out` cannot be written to.
    """
    check_writable(out)
    return put(out, rendered(report, rule_set, exploration, svg_of))


def rendered(
    report: Report, rule_set: RuleSet, exploration: RuleSet | None = None, svg_of: Callable[[Chart], str] = svg_of
) -> dict[str, bytes]:
    """The files by name; takes as long as the pictures take to draw."""
    content = {
        "report.md": report_markdown(report).encode(),
        "report.html": report_html(report, svg_of).encode(),
        "report.json": report_json(report),
        "rules.json": rules_json(rule_set),
    }
    return content if exploration is None else content | {"exploration.json": rules_json(exploration)}
