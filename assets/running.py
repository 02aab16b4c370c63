"""Running a job in this process, with progress on the terminal: what the command line does.

Belongs here: the instance in the home, run configuration, telling why a run failed. Does not belong here: what to run
(`definitions`) and what to print at the end (the command line).
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from assets.waiting import IMPATIENT
from routing_pipeline.engine import open_engine
from routing_pipeline.errors import DataQualityError, PipelineError
from routing_pipeline.home import Home
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.policy.rule_set import RuleSet
from routing_pipeline.recommendation.simulation import Simulation, simulate
from routing_pipeline.scope import AnalysisScope
from routing_pipeline.window_rows import rows_at

DAGSTER_YAML = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"

Progress = Callable[[str, int, int], None]
"""Called with the step that just began or ended, steps done, steps in all."""


@contextlib.contextmanager
def instance_of(home: Home) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance that lives in the home; `dagster dev` with the same DAGSTER_HOME shows its runs."""
    home.dagster.mkdir(parents=True, exist_ok=True)
    settings = home.dagster / "dagster.yaml"
    if not settings.exists():
        settings.write_text(DAGSTER_YAML, encoding="utf-8")
    history = {"module": "assets.history", "class": "HeldHistory", "config": {"base_dir": str(home.dagster / "history" / "runs")}}
    # A home whose instance keeps its history elsewhere says so under `storage`, and then no file is ours to hold open.
    ours = {} if "storage:" in settings.read_text(encoding="utf-8") else {"event_log_storage": history}
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home.dagster), overrides=ours)) as instance:
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

        job = defs.resolve_job_def(job_name)
        run_id = str(uuid4())
        selected = [key for key in job.asset_layer.executable_asset_keys if _is_asked(key, only, leave_out)]
        # Checks are steps as well, one for several of them.
        steps = _Steps(len(job.get_subset(asset_selection=frozenset(selected)).nodes), progress)
        instance.add_event_listener(run_id, steps)
        with _quiet():
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
    run_id = run_job(
        home,
        "optimize_routing",
        resources=resources,
        ops={"analysis_scope": dict(scope)},
        only=("analysis_scope", "routing_evidence"),
        tags={"reason": f"simulate {rule_set.rule_set_id}"[:200]},
        progress=progress,
    )
    key = home.results.key_of_run(run_id) or ""
    found, evidence = home.results.load("analysis_scope", key, AnalysisScope), home.results.load("routing_evidence", key, RoutingEvidence)
    if found is None or evidence is None:
        raise RuntimeError("the run left no evidence behind")
    limit = {name: resources[name] for name in ("memory_limit",) if name in resources}
    with open_engine(resources["engine"], **limit, spill_to=home.scratch / "spill") as engine:
        return simulate(rule_set, evidence, rows_at(engine, found.estimated_from), found)


class _Steps:
    """Counts steps as their events pass by."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.done, self.progress = total, 0, progress

    def __call__(self, event: dg.EventLogEntry) -> None:
        if self.progress is None or event.step_key is None:
            return
        if event.dagster_event is None:
            # A line that a step logged about how far it is.
            self.progress(event.user_message, self.done, self.total)
        elif event.dagster_event.is_step_start:
            self.progress(event.step_key, self.done, self.total)
        elif event.dagster_event.is_step_success or event.dagster_event.is_step_failure:
            self.done += 1
            self.progress(event.step_key, self.done, self.total)


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


def use_home_for_dagster(home: Home) -> None:
    """Let child processes find the instance."""
    os.environ["DAGSTER_HOME"] = str(Path(home.dagster).absolute())
