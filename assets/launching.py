"""How a deployment without Kubernetes starts runs, and notices that one has died.

Belongs here: a run launcher for Dagster's instance (infra/dagster.yaml names it). Does not belong here: what runs.

Dagster's default launcher starts a run as a process of the code server, which reports a process that dies. Where the code
server dies with it (out of memory, a new image), nobody is left to report, and the run would look alive for ever.

What is private to Dagster here, and only here: its default launcher answers no health check, the answer to one
(`CheckRunHealthResult`, `WorkerStatus`) has no public name, and whether a code server still holds a run can be asked over its
gRPC interface alone. A sensor is no substitute: run monitoring is what fails a run and has it tried again, and it asks the launcher.
"""

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value
from dagster._serdes.config_class import ConfigurableClassData

SILENT_FOR_S = 300


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Starts runs in the code server, and lets run monitoring ask the code server whether it still holds them.

    A run that the code server does not know is taken for dead once it has said nothing for `silent_for_seconds`: after its
    code was reloaded a server may not know of runs that go on. The server must have denied it for half as long, too: Dagster asks
    for a retry once, at the moment of the failure, and drops it where its daemon has not loaded the code of a server that came back.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None, silent_for_seconds: int = SILENT_FOR_S) -> None:
        self._silent_for_seconds = silent_for_seconds
        self._denied_since_s: dict[str, float] = {}
        super().__init__(inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What dagster.yaml may say."""
        return {"silent_for_seconds": dg.Field(int, default_value=SILENT_FOR_S)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> "WatchedRunLauncher":
        """From dagster.yaml."""
        return cls(inst_data, **config_value)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process is there; a code server that does not answer says nothing about it."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]  # Dagster's own
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        request = CanCancelExecutionRequest(run_id=run.run_id)
        try:
            answer = deserialize_value(client.can_cancel_execution(request, timeout=10), CanCancelExecutionResult)
        except DagsterUserCodeUnreachableError as error:
            self._denied_since_s.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"the code server does not answer ({type(error).__name__})")
        if answer.can_cancel:
            self._denied_since_s.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        denied_s = time.monotonic() - self._denied_since_s.setdefault(run.run_id, time.monotonic())
        silent_s = time.time() - self._last_said_s(run.run_id)
        if silent_s < self._silent_for_seconds or denied_s < self._silent_for_seconds / 2:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._denied_since_s[run.run_id]
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server does not know this run: its process has died")

    def _last_said_s(self, run_id: str) -> float:
        newest = self._instance.event_log_storage.get_logs_for_run(run_id, limit=1, ascending=False)
        return max((event.timestamp for event in newest), default=0.0)
