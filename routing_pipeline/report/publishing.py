"""From a finished report to the files that users open, all of them or none.

Belongs here: rendering everything first, then replacing the files of `--out`. Does not belong here: what is in them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.policy.rule_set import RuleSet, rules_json
from routing_pipeline.report.assembly import Report, report_json
from routing_pipeline.report.charts.drawing import Chart, svg_of
from routing_pipeline.report.html import report_html
from routing_pipeline.report.markdown import report_markdown

FILES = ("report.md", "report.html", "report.json", "rules.json", "exploration.json")


def check_writable(out: Path) -> Path:
    """Make `out` and see that files can be put into it; before any work, so that nobody waits for a report in vain.

    Raises:
        UnusableInputError: it cannot be written to, or something that is no file has the name of a report.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(dir=out, prefix=".write-test-")
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise UnusableInputError(f"--out {out}: {error.strerror}; name a folder that can be written to") from error
    for name in FILES:
        if (out / name).is_dir():
            raise UnusableInputError(f"--out {out}: {name} is a folder there; move it away or name another folder")
    return out


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
    content = {
        "report.md": report_markdown(report).encode(),
        "report.html": report_html(report, svg_of).encode(),
        "report.json": report_json(report),
        "rules.json": rules_json(rule_set),
    }
    if exploration is not None:
        content["exploration.json"] = rules_json(exploration)
    staged: dict[Path, Path] = {}
    try:
        for name, text in content.items():
            staged[out / name] = _stage(out, name, text)
        for place, waiting in staged.items():
            os.replace(waiting, place)
    except OSError as error:
        raise UnusableInputError(f"--out {out}: {error.strerror}; nothing was published") from error
    finally:
        for waiting in staged.values():
            waiting.unlink(missing_ok=True)
    if exploration is None:
        (out / "exploration.json").unlink(missing_ok=True)
    return tuple(staged)


def _stage(out: Path, name: str, content: bytes) -> Path:
    handle, waiting = tempfile.mkstemp(dir=out, prefix=f".{name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(waiting, 0o644)
    except BaseException:
        Path(waiting).unlink(missing_ok=True)
        raise
    return Path(waiting)
