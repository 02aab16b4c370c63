"""The home's reports over HTTP: an index of all, and each as it was published.

Belongs here: what the index says of a run, and the headers that a report needs. Does not belong here: the live page (`app`), making a report
(`report`), deciding about rules (`rules`).
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from urllib.parse import quote

from routing_pipeline import text as wording
from routing_pipeline.report.charts.drawing import kept
from routing_pipeline.report.html import report_html
from routing_pipeline.report.rebuilding import find_run, report_of
from routing_pipeline.rules.past_reports import PastReport, asked, finding, past_reports
from routing_pipeline.rules.record import RuleSetRecord
from routing_pipeline.storage.home import Home

MOST = 50
NEWEST = "latest"
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')


def index(home: Home, record: RuleSetRecord | None, dagster_url: str = "") -> str:
    """All reports, newest first: what was asked, what was found, where its rules stand, and the run that made it, if Dagster's UI is known."""
    return _page([_row(each, dagster_url) for each in past_reports(home.runs, record, MOST)], has_runs=bool(dagster_url))


def run_id_of(home: Home, run: str) -> str:
    """The id of a run, or of the newest for `latest`; raises UnusableInputError where there is no such run."""
    return find_run(home.runs, None if run == NEWEST else run).run_id


def run_in_dagster(dagster_url: str, run_id: str) -> str:
    """Where Dagster's UI shows a run."""
    return f"{dagster_url}/runs/{quote(run_id, safe='')}"


def _row(report: PastReport, dagster_url: str) -> list[str]:
    link = f'<a href="/reports/{html.escape(report.run_id, quote=True)}">{wording.moment(report.published)}</a>'
    state = "live" if report.is_live else (report.state or wording.CANNOT_TELL).replace("_", " ")
    cells = [link, report.kind, html.escape(asked(report)), html.escape(finding(report)), state if report.rules else ""]
    if dagster_url:
        cells.append(
            f'<a href="{html.escape(run_in_dagster(dagster_url, report.run_id), quote=True)}">{html.escape(report.run_id[:8])}</a>'
        )
    return cells


def _page(rows: list[list[str]], *, has_runs: bool) -> str:
    titles = ("Made", "Kind", "Asked", "Found", "State", *(("Run",) if has_runs else ()))
    head = "".join(f'<th scope="col">{each}</th>' for each in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    none = "" if rows else "<p>No report has been made in this home yet.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>Reports</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/page.css"></head><body><main><h1>Reports</h1><p><a href="/">Live page</a></p>'
        f'{none}<div class="scroll told" tabindex="0" role="region" aria-label="Reports"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></main></body></html>"
    )


def report_page(home: Home, run: str) -> tuple[str, str]:
    """A run's report, or the newest for `latest`, and the policy that it is sent with.

    Raises:
        UnusableInputError: there is no such run, or another version made it.
    """
    return _page_of(home, run_id_of(home, run))


@lru_cache(maxsize=8)
def _page_of(home: Home, run_id: str) -> tuple[str, str]:
    """The policy is the page's own, which lets its script run and no other."""
    page = report_html(report_of(find_run(home.runs, run_id)), kept(home.results))
    policy = _POLICY.search(page)
    # What only a header can say: nobody puts the report into a frame.
    own = "default-src 'none'" if policy is None else html.unescape(policy[1])
    return page, f"{own}; frame-ancestors 'none'"
