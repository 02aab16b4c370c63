"""Object storage to lake: the request log and the feedback on it.

Belongs here: assets that write to the lake. Analyses never do.
"""

from typing import Any

import dagster as dg

from assets import days, shown, waiting
from assets.resources import HomeResource
from routing_pipeline.errors import ServiceUnavailableError
from routing_pipeline.ingest import pace
from routing_pipeline.ingest.compaction import KEPT_DAYS, MaintenanceResult, maintain
from routing_pipeline.ingest.feedback import FeedbackIngestResult, ingest_feedback
from routing_pipeline.ingest.formats.mapping import describes_format
from routing_pipeline.ingest.ingestion import IngestResult, ingest_logs, ingest_or_stand, together
from routing_pipeline.ingest.reprocessing import ingest_days
from routing_pipeline.lake.table import Lake
from routing_pipeline.parameters import read_scales
from routing_pipeline.schema import KEPT_FEEDBACK, REQUEST_LOG
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.window.retention import tidy

OWNERS = ["team:llm-platform"]
NO_SOURCE = "no source of logs; give --logs, or set ROUTING_PIPELINE_LOGS"


GATEWAY = dg.AssetSpec(
    "gateway",
    group_name="sources",
    kinds={"llm"},
    owners=OWNERS,
    description="The gateway that picks a model for every request, and logs it. Nothing is sent to it. One entry per attempt.",
)
LOG_OBJECTS = dg.AssetSpec(
    "log_objects",
    deps=[GATEWAY],
    group_name="sources",
    kinds={"s3"},
    owners=OWNERS,
    description="The gateway's logs, in a bucket or a folder: `ROUTING_PIPELINE_LOGS`, or what was named before. One object per upload.",
)
FEEDBACK_OBJECTS = dg.AssetSpec(
    "feedback_objects",
    group_name="sources",
    kinds={"s3"},
    owners=OWNERS,
    description="Scores that were given after the answers, in a bucket or a folder: `ROUTING_PIPELINE_FEEDBACK`. One line per score.",
)
SOURCES = (GATEWAY, LOG_OBJECTS, FEEDBACK_OBJECTS)
"""Where lineage begins; nothing of ours makes them."""


class IngestConfig(dg.Config):
    """Where this run's logs come from; empty means the home's own sources."""

    logs: str = ""
    log_format: str = "auto"
    add_source: bool = False
    # An analysis of what is there, marked as such, is worth more than none while the store is down.
    stand_if_unavailable: bool = True


class FeedbackConfig(dg.Config):
    """Where this run's feedback comes from; empty means the configured source, or none."""

    feedback: str = ""


class DaysConfig(dg.Config):
    """The format of the logs, as in `request_log`; where they lie, the home and the environment say."""

    log_format: str = "auto"


@days.daily(
    key=days.KEY,
    group_name="ingest",
    kinds={"s3", "duckdb", "iceberg"},
    owners=OWNERS,
    code_version=code_key("routing_pipeline.ingest.reprocessing"),
    deps=[LOG_OBJECTS],
)
def request_log_days(context: dg.AssetExecutionContext, config: DaysConfig, home: HomeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # it has no value
    """The days of `request_log`, for backfills: objects of these days are read, those read before once more. One set of rows per day."""
    opened, sources, told = home.open(), home.log_sources(), pace.Pace(context.log.info)
    if not sources:
        raise dg.Failure(NO_SOURCE)
    asked, log_format, lake = days.asked_for(context), _format(config.log_format, home), Lake(opened)
    before = lake.held_by_day()
    try:
        result = together(
            [ingest_days(opened, source, asked, log_format=log_format, progress=told, workers=home.workers()) for source in sources]
        )
    except ServiceUnavailableError as error:
        waiting.later(context, waiting.STORE_RETRIES, waiting.STORE_RETRY_AFTER_S, str(error))
        raise
    home.sum_up()
    days.tell(context, opened, before, lake.held_by_day(), frozenset(context.partition_keys))
    return dg.MaterializeResult(metadata={"dagster/row_count": lake.row_count(), **_counts(result)})


@dg.asset(
    group_name="ingest",
    kinds={"s3", "duckdb", "iceberg"},
    owners=OWNERS,
    code_version=code_key("routing_pipeline.ingest.ingestion"),
    metadata=shown.columns(REQUEST_LOG, "one row per attempt", key="attempt_id"),
    deps=[LOG_OBJECTS, request_log_days],
)
def request_log(context: dg.AssetExecutionContext, config: IngestConfig, home: HomeResource) -> IngestResult:
    """The gateway's request log in the lake; only objects not seen before are read. One row per attempt."""
    sources = (config.logs,) if config.logs else home.log_sources()
    if not sources:
        raise dg.Failure(NO_SOURCE)
    log_format, lake = _format(config.log_format, home), Lake(home.open())
    before = lake.held_by_day()
    try:
        result = together([_read(home, source, config, log_format, pace.Pace(context.log.info)) for source in sources])
    except ServiceUnavailableError as error:
        waiting.later(context, waiting.STORE_RETRIES, waiting.STORE_RETRY_AFTER_S, str(error))
        raise
    if result.unavailable:
        waiting.later(context, waiting.STORE_RETRIES, waiting.STORE_RETRY_AFTER_S, result.unavailable)
        context.log.warning("%s; what was read earlier stands", result.unavailable)
    home.sum_up()
    days.tell(context, home.open(), before, lake.held_by_day())
    context.add_output_metadata({"dagster/row_count": lake.row_count(), **_counts(result)})
    return result


def _format(asked: str, home: HomeResource) -> str:
    """The format that was asked for, else the one that the configuration file describes."""
    described = home.config_file()
    return str(described) if asked == "auto" and described is not None and describes_format(described) else asked


def _read(home: HomeResource, source: str, config: IngestConfig, log_format: str, told: pace.Pace) -> IngestResult:
    how: dict[str, Any] = {"log_format": log_format, "progress": told, "workers": home.workers()}
    if config.stand_if_unavailable and not config.add_source:
        return ingest_or_stand(home.open(), source, **how)
    return ingest_logs(home.open(), source, add_source=config.add_source, **how)


@dg.asset(
    group_name="ingest",
    kinds={"duckdb", "iceberg"},
    owners=OWNERS,
    code_version=code_key("routing_pipeline.ingest.feedback"),
    metadata=shown.columns(KEPT_FEEDBACK, "one row per score"),
    deps=[request_log, FEEDBACK_OBJECTS],
)
def feedback(context: dg.AssetExecutionContext, config: FeedbackConfig, home: HomeResource) -> FeedbackIngestResult | None:
    """Scores given after the answers, by judges, users, checks and evals; joined to requests when they are read. One row per score."""
    uri = config.feedback or home.feedback
    if not uri:
        context.log.info("no feedback was named; quality is what the logs hold themselves")
        return None
    result = ingest_feedback(home.open(), uri, scales=read_scales(home.config_file()))
    home.sum_up()
    # Last: what can be read was read, and stays.
    result.check_readable()
    context.add_output_metadata(_counts(result))
    return result


class UpkeepConfig(dg.Config):
    """How long older snapshots of the lake stay readable, days."""

    kept_days: float = KEPT_DAYS


@dg.asset(
    group_name="ingest",
    kinds={"duckdb", "iceberg"},
    owners=OWNERS,
    code_version=code_key("routing_pipeline.ingest.compaction"),
    deps=[request_log, feedback],
)
def lake_upkeep(config: UpkeepConfig, home: HomeResource) -> dg.MaterializeResult:  # type: ignore[type-arg]  # it has no value
    """The lake with its small files joined, without old snapshots and without stored results that nothing uses; no row changes. One pass per night."""
    opened = home.open()
    result, dropped = maintain(opened, kept_days=config.kept_days), tidy(opened)
    seconds = {"seconds": dg.MetadataValue.float(result.seconds), "kept for reuse, dropped": dg.MetadataValue.int(dropped)}
    return dg.MaterializeResult(metadata={**_counts(result), **seconds})


def _counts(result: IngestResult | FeedbackIngestResult | MaintenanceResult) -> dict[str, dg.MetadataValue]:
    counts = {name: value for name, value in result.model_dump().items() if isinstance(value, int)}
    return {name: dg.MetadataValue.int(value) for name, value in counts.items()}
