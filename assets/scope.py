"""Parameters enter the graph here, once, and travel with the data.

Belongs here: the scope, and the evidence that recommendations and four of the analyses rest on.
"""

import dagster as dg

from assets import shown
from assets.ingest import OWNERS, feedback, request_log
from assets.resources import HomeResource
from assets.waiting import IMPATIENT, later
from routing_pipeline import beside
from routing_pipeline.data_quality.suite import ledgers, refuse
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations import ahead
from routing_pipeline.operations.table import OPERATIONS
from routing_pipeline.parameters import read_parameters
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.report.charts.cell_map import overlap_map, quality_map
from routing_pipeline.report.unchanged import state_of
from routing_pipeline.schema import SCOPED_REQUESTS
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.window.resolve import last_analysis, resolve_scope
from routing_pipeline.window.router_health import ask, read_router
from routing_pipeline.window.scope import AnalysisScope

EVIDENCE = OPERATIONS["routing_evidence"]


class ScopeConfig(dg.Config):
    """What is asked; what stays empty is taken from the configuration file, else from the defaults."""

    timeframe: str | None = None
    as_of: str | None = None
    task_types: list[str] | None = None
    cost_threshold: float | None = None
    quality_threshold: float | None = None
    goal: str | None = None
    max_quality_drop: float | None = None
    max_quality_drop_per_task: float | None = None
    prove_per_task: bool | None = None
    single: bool | None = None
    budget: float | None = None
    explore_only: bool | None = None
    sample_above: int | None = None
    capabilities: str | None = None


@dg.asset(
    group_name="scope",
    kinds={"duckdb"},
    owners=OWNERS,
    code_version=code_key("routing_pipeline.window.resolve"),
    metadata=shown.columns(SCOPED_REQUESTS, "one row per attempt within the window", key="attempt_id"),
    deps=[request_log, feedback],
)
def analysis_scope(context: dg.AssetExecutionContext, config: ScopeConfig, home: HomeResource) -> AnalysisScope:
    """The window on the lake's snapshot that every number of this analysis covers, and its rows made ready to read. One row per attempt."""
    opened = home.open()
    parameters = read_parameters(home.config_file(), **config.model_dump())
    # Checks of the ledgers run with what they read; who analyses what is there runs none.
    refuse(ledgers(opened, Lake(opened)), "nothing was published")
    # As it is before anything of it is read: what is delivered stands again while it still is (`report.unchanged`).
    state = state_of(opened, home.config_file(), home.record())
    router = read_router(home.config_file())
    health = None if router is None else ask(router)
    if router is not None and health is not None and not health.is_healthy:
        why = f"The router at {health.url} is unhealthy ({health.detail}, asked {health.asked_at:%Y-%m-%d %H:%M} UTC)"
        later(context, router.retries, router.retry_after_minutes * 60, why)
        scope = last_analysis(opened.results, opened.runs, parameters, why)
        context.log.warning("%s", scope.stale_because)
    else:
        with home.reading() as engine:
            scope = resolve_scope(Lake(opened), parameters, engine=engine, engine_name=home.engine)
    beside.settle(ahead.SUMS)
    ahead.begin(home.analyst(), scope)
    if state is not None:
        opened.runs.note_state(context.run.run_id, state)
    scope = scope.model_copy(update={"router": health})
    context.instance.add_run_tags(context.run.run_id, run_tags(context.run, scope))
    context.add_output_metadata(
        {
            "dagster/row_count": scope.attempts,
            "window": f"{scope.start:%Y-%m-%d %H:%M} to {scope.end:%Y-%m-%d %H:%M} UTC",
            "covered days": round(scope.covered_days, 2),
            "requests": scope.requests,
            "labelled": scope.labelled,
            "goal": scope.parameters.goal,
            "router": "not asked" if health is None else f"{health.detail} from {health.url}",
            "new": scope.stale_because or "yes",
            "notices": dg.MetadataValue.md("\n".join(f"- {notice}" for notice in scope.notices) or "none"),
        }
    )
    return scope


def run_tags(run: dg.DagsterRun, scope: AnalysisScope) -> dict[str, str]:
    """What a list of runs says of an analysis, however it was started: its goal, its window, and why it ran unless a tag `reason` says so."""
    why = {} if "reason" in run.tags else {"why": "asked for at a terminal" if IMPATIENT in run.tags else "started by hand"}
    window = f"{scope.timeframe} to {scope.end:%Y-%m-%d %H:%M} UTC"
    return {"goal": scope.parameters.goal, "window": window, **why}


@dg.asset(group_name=EVIDENCE.group, description=EVIDENCE.description, kinds={"duckdb", "numpy"}, owners=OWNERS, code_version=EVIDENCE.code)
def routing_evidence(context: dg.AssetExecutionContext, analysis_scope: AnalysisScope, home: HomeResource) -> RoutingEvidence:
    """Stands here, before all that rests on it."""
    beside.settle(EVIDENCE.name)
    evidence: RoutingEvidence = home.analyst().answer("routing_evidence", analysis_scope)
    context.add_output_metadata(
        {
            "grade": f"{evidence.grade}: {evidence.grade_reason}",
            "segments": len(evidence.segments),
            "labelled": evidence.labelled,
            "unsupported share": evidence.unsupported_share,
            "refusal": evidence.refusal or "none",
        }
        | shown.chart("where the logs can tell", overlap_map(evidence), home.svg_of)
        | shown.chart("quality by task and model", quality_map(evidence), home.svg_of)
    )
    return evidence
