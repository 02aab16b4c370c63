"""What leaves the house: the report and the rule set.

Belongs here: publishing files. Does not belong here: rendering (routing_pipeline.report).
"""

import os
from pathlib import Path
from typing import Any

import dagster as dg

from assets.automation import is_automatic, is_of_alert
from assets.ingest import OWNERS
from assets.operations import LAST, PRIORITY
from assets.resources import HomeResource
from routing_pipeline.data_quality.suite import data_quality
from routing_pipeline.estimates import Result
from routing_pipeline.ingest.feedback_totals import feedback_totals
from routing_pipeline.ingest.ingestion import IngestResult
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.table import OPERATIONS
from routing_pipeline.parameters import as_question, read_parameters
from routing_pipeline.policy.exploration import exploration_rules
from routing_pipeline.recommendation.answers import answers_to
from routing_pipeline.recommendation.optimization_plan import OptimizationPlan
from routing_pipeline.recommendation.routing_rules import RoutingRules
from routing_pipeline.report import comparison
from routing_pipeline.report.files import rendered
from routing_pipeline.report.headlines import headlines
from routing_pipeline.report.markdown import page_one
from routing_pipeline.report.model import Report, ingest_counts, run_of
from routing_pipeline.report.out_folder import put
from routing_pipeline.report.rebuilding import report_code
from routing_pipeline.report.unchanged import keep_for_again, state_of
from routing_pipeline.rules.delivery import delivered, status_of_rules
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.stopping import whole
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.window.retention import tidy
from routing_pipeline.window.scope import AnalysisScope

DELIVERY: dict[str, Any] = {"group_name": "delivery", "owners": OWNERS}


class DeliveryConfig(dg.Config):
    """Folder that receives the report; empty means `report` in the home, and `report/alert` for a run that an alert started."""

    out: str = ""


@dg.asset(  # type: ignore[untyped-decorator]  # the words are a dict
    **DELIVERY, kinds={"json"}, code_version=code_key("routing_pipeline.rules.delivery")
)
def routing_rule_set(context: dg.AssetExecutionContext, routing_rules: RoutingRules, home: HomeResource) -> RuleSet:
    """The rule set as an artefact of its own: proposed here, approved by a person, published to a gateway. One rule set per analysis."""
    rule_set, status = delivered(
        home.record(),
        routing_rules,
        automatic=home.publishing().automatic,
        is_of_alert=is_of_alert(context.run),
        explored_only=routing_rules.look == 0,
    )
    context.add_output_metadata(
        {
            "status": rule_set.status,
            "approval": status.verdict,
            "next": status.next_step or "nothing",
            "rules": len(rule_set.rules),
            "rules.json": dg.MetadataValue.json(rule_set.model_dump(mode="json", exclude_none=True)),
        }
    )
    return rule_set


def _opened_from(run_id: str) -> dict[str, Any]:
    """Links into the live page, where there is one that this deployment's people reach."""
    live_page = os.environ.get("ROUTING_PIPELINE_DASHBOARD_URL", "").rstrip("/")
    if not live_page:
        return {}
    return {"open": dg.MetadataValue.url(f"{live_page}/reports/{run_id}"), "all reports": dg.MetadataValue.url(f"{live_page}/reports")}


@dg.asset(  # type: ignore[untyped-decorator]  # the words are a dict
    **DELIVERY,
    kinds={"jinja", "html"},
    code_version=report_code(),
    op_tags={PRIORITY: LAST},
    ins={each.name: dg.AssetIn(dagster_type=each.result) for each in OPERATIONS.values() if each.group},
)
def optimization_report(
    context: dg.AssetExecutionContext,
    config: DeliveryConfig,
    home: HomeResource,
    request_log: IngestResult,
    analysis_scope: AnalysisScope,
    routing_rule_set: RuleSet,
    **results: Result,
) -> Report:
    """The analysis as report.md, report.html, report.json and rules.json. One report per run."""
    opened = home.open()
    plan = results["optimization_plan"]
    assert isinstance(plan, OptimizationPlan)  # noqa: S101 - what its row gives
    totals = Lake(opened).totals()
    report = Report.of(
        results,
        run=run_of(
            analysis_scope,
            context.run.run_id,
            home=opened.place,
            config=None if home.config_file() is None else str(home.config_file()),
            sources=opened.sources(),
            ingested=ingest_counts(request_log),
            quarantine_reasons=totals.reasons,
            reason=context.run.tags.get("reason"),
            stale_because=analysis_scope.stale_because or request_log.unavailable,
        ),
        scope=analysis_scope,
        ingest=ingest_counts(totals),
        left_out=sum(totals.left_out.values()),
        feedback=feedback_totals(opened),
        data_quality=data_quality(opened, analysis_scope, Lake(opened)),
        routing_rule_set=routing_rule_set,
        rule_set_status=status_of_rules(home.record(), routing_rule_set),
        recommendations=answers_to(opened.coordination, plan),
    )
    report = comparison.with_last(report, opened.runs)
    exploration = exploration_rules(report.routing_evidence, analysis_scope, routing_rule_set)
    folder = "report/alert" if is_of_alert(context.run) else "report"
    out = Path(config.out) if config.out else opened.root / folder
    content = rendered(report, routing_rule_set, exploration, home.svg_of)
    # What lies there is what the home knows of, also where somebody stops the run just then.
    with whole():
        files = put(out, content)
        opened.runs.keep(
            context.run.run_id,
            report,
            exploration,
            content,
            key=analysis_scope.key,
            is_of_alert=is_of_alert(context.run),
            # What nobody but the configuration asked for is the home's own question.
            is_experiment=not is_automatic(context.run) and analysis_scope.parameters != read_parameters(home.config_file()),
            question=as_question(analysis_scope.parameters),
            code=report_code(),
        )
    # What a person asks for stands again; what runs by itself runs because something has changed.
    if not is_automatic(context.run):
        keep_for_again(opened, report, state_of(opened, home.config_file(), home.record()))
    if opened.warehouse:
        # The folder is this worker's own, and may be gone with it.
        for path in files:
            opened.files.write(f"{folder}/{path.name}", path.read_bytes())
    tidy(opened)
    context.add_output_metadata(
        {
            "headlines": dg.MetadataValue.md("\n".join(f"- {line}" for line in headlines(report))),
            "report": dg.MetadataValue.path(opened.files.uri(f"{folder}/report.html") if opened.warehouse else str(out / "report.html")),
            "page one": dg.MetadataValue.md(page_one(content["report.md"].decode())),
            **_opened_from(context.run.run_id),
            "files": len(files),
        }
    )
    return report
