"""Running a job in this process, with progress on the terminal: what the command line does.

Belongs here: the instance in the home, run configuration, telling why a run failed. Does not belong here: what to run
(`definitions`) and what to print at the end (the command line).
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg

from assets.unfinished import close, held
from assets.waiting import IMPATIENT
from routing_pipeline.errors import DataQualityError, PipelineError
from routing_pipeline.lake.table import Lake
from routing_pipeline.operations.own_rules import own_rules
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.recommendation.replayed_rules import replayed
from routing_pipeline.recommendation.simulation import Simulation
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.storage.files import write_whole
from routing_pipeline.storage.home import Home
from routing_pipeline.window.engine import open_engine
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import AnalysisScope
from routing_pipeline.window.spark import one_application, settings_for

DAGSTER_YAML = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"

Progress = Callable[[str, int, int], None]
"""Called with the step that just began, or nothing where one ended; steps done, steps in all."""


@contextlib.contextmanager
def instance_of(home: Home) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance that lives in the home; `dagster dev` with the same DAGSTER_HOME shows its runs."""
    home.dagster.mkdir(parents=True, exist_ok=True)
    settings = home.dagster / "dagster.yaml"
    if not settings.exists():
        write_whole(settings, DAGSTER_YAML.encode())
    history = {"module": "assets.history", "class": "HeldHistory", "config": {"base_dir": str(home.dagster / "history" / "runs")}}
    # A home whose instance keeps its history elsewhere says so under `storage`, and then no file is ours to hold open.
    ours = {} if "storage:" in settings.read_text(encoding="utf-8") else {"event_log_storage": history}
    # For what steps print Dagster takes standard output and standard error away, and starts two processes for each of them.
    ours["compute_logs"] = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    # Temporary by its name alone: what lies in a folder that the caller names stays there.
    with dg.DagsterInstance.local_temp(str(home.dagster), overrides=ours) as instance:
        yield instance


def run_job(
    home: Home,
    job_name: str,
    *,
    resources: Mapping[str, Any],
    ops: Mapping[str, Any],
    only: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> str:
    """Run a job of the definitions, or a part of it, to its end; returns the run's id.

    Raises:
        PipelineError: the error that ended the run, with its exit code; a failed blocking check is a DataQualityError.
    """
    with warnings.catch_warnings(), instance_of(home) as instance:
        warnings.simplefilter("ignore")
        from assets.definitions import defs

        close(home, instance)
        job = defs.resolve_job_def(job_name)
        run_id = str(uuid4())
        selected = [key for key in job.asset_layer.executable_asset_keys if _is_asked(key, only, leave_out)]
        # Checks are steps as well, one for several of them.
        steps = _Steps(len(job.get_subset(asset_selection=frozenset(selected)).nodes), progress)
        instance.add_event_listener(run_id, steps)
        with _quiet(), held(home, instance, run_id):
            result = job.execute_in_process(
                run_config={
                    "resources": {"home": {"config": dict(resources)}, "io_manager": {"config": _place(resources)}},
                    "ops": {name: {"config": config} for name, config in ops.items()},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                instance=instance,
                run_id=run_id,
                asset_selection=selected,
                tags={**(tags or {}), IMPATIENT: "somebody waits at a terminal"},
                raise_on_error=False,
            )
        if not result.success:
            raise _reason(result)
        return run_id


def _place(resources: Mapping[str, Any]) -> dict[str, Any]:
    return {name: resources[name] for name in ("root", "warehouse", "catalog") if name in resources}


def _is_asked(key: dg.AssetKey, only: Sequence[str], leave_out: Sequence[str]) -> bool:
    name = key.to_user_string()
    return name not in leave_out and (not only or name in only)


def simulated(
    home: Home, rule_set: RuleSet, *, resources: Mapping[str, Any], scope: Mapping[str, Any], progress: Progress | None = None
) -> Simulation:
    """Replay a rule set on the home's logs: scope and evidence by the job, the replay here.

    Raises:
        PipelineError: as run_job.
    """
    config = Path(resources["config"]) if resources.get("config") else None
    with one_application(lambda: settings_for(config, Lake(home).row_count())):
        return _simulated(home, rule_set, resources, scope, progress)


def _simulated(
    home: Home, rule_set: RuleSet, resources: Mapping[str, Any], scope: Mapping[str, Any], progress: Progress | None
) -> Simulation:
    run_id = run_job(
        home,
        "optimize_routing",
        resources=resources,
        ops={"analysis_scope": dict(scope)},
        only=("analysis_scope", "routing_evidence"),
        tags={"reason": f"simulate {rule_set.rule_set_id}"[:200]},
        progress=progress,
    )
    key = home.runs.key_of(run_id) or ""
    found, evidence = home.results.load("analysis_scope", key, AnalysisScope), home.results.load("routing_evidence", key, RoutingEvidence)
    if found is None or evidence is None:
        raise RuntimeError("the run left no evidence behind")
    limit = {name: resources[name] for name in ("memory_limit",) if name in resources}
    with open_engine(resources["engine"], **limit, spill_to=home.scratch / "spill") as engine:
        return replayed(rule_set, evidence, rows_at(engine, found.estimated_from), found, own_rules(home, found))


class _Steps:
    """Counts steps as their events pass by."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.done, self.progress, self.has_failed = total, 0, progress, False

    def __call__(self, event: dg.EventLogEntry) -> None:
        if self.progress is None or event.step_key is None or self.has_failed:
            # After a failure all that follows is not done.
            return
        if event.dagster_event is None:
            # A line that a step logged about how far it is.
            self.progress(event.user_message, self.done, self.total)
        elif event.dagster_event.is_step_start:
            self.progress(event.step_key, self.done, self.total)
        elif event.dagster_event.is_step_success or event.dagster_event.is_step_failure:
            self.done += 1
            self.has_failed = event.dagster_event.is_step_failure
            self.progress("", self.done, self.total)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dagster logs through the root logger as well; the terminal belongs to the progress bar."""
    logger = logging.getLogger("dagster")
    before, logger.level = logger.level, logging.CRITICAL
    try:
        yield
    finally:
        logger.level = before


def _reason(result: dg.ExecuteInProcessResult) -> Exception:
    """The first failure of a run, as what the command line understands."""
    failed = [
        f"{check.asset_key.to_user_string()}: {check.check_name}: {check.description or 'no detail'}"
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    ]
    if failed:
        return DataQualityError("blocking data-quality check failed, nothing was published: " + "; ".join(failed))
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None:
                for kind in _all_kinds(PipelineError):
                    if error.cls_name == kind.__name__:
                        return kind(error.message.removeprefix(f"{kind.__module__}.{kind.__name__}: ").strip())
                if error.cause is None:
                    return RuntimeError(error.to_string())
                error = error.cause
    return RuntimeError("the run failed before its first step")


def _all_kinds(kind: type[PipelineError]) -> Iterator[type[PipelineError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _all_kinds(below)
