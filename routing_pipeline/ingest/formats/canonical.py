"""Our own schema as a log format: records whose keys are the columns of schema.REQUEST_LOG, as JSON lines, CSV or Parquet.

For gateways that no other module speaks of: a few lines of the user's own SQL or Python produce it. `started_at` is
ISO 8601 (UTC unless it names a zone) or seconds since 1970; `request_id` defaults to `attempt_id`; `user_id` may stand in
for `user_hash` and `api_key` (or better, its name) for `key_hash`, and whichever is there is hashed with the home's key. `operation` is one of schema.OPERATIONS or any name that other
tools give a kind of call; flags are true or false.
"""

from __future__ import annotations

from routing_pipeline.ingest.formats.column_map import column_map, time_of
from routing_pipeline.ingest.formats.kinds import is_nothing_by_name, kind_of_name
from routing_pipeline.ingest.formats.log_format import DERIVED_COLUMNS
from routing_pipeline.ingest.formats.needs import service_tier
from routing_pipeline.ingest.formats.work import tags_of
from routing_pipeline.schema import REQUEST_LOG

# Everything as text: one meaning of "given but unusable" for JSON, CSV and Parquet alike.
STRUCTURE = {column.name: "VARCHAR" for column in REQUEST_LOG if column.name not in DERIVED_COLUMNS} | {
    "user_id": "VARCHAR",
    "api_key": "VARCHAR",
}

CANONICAL = column_map(
    "canonical",
    structure=STRUCTURE,
    keys=(frozenset({"attempt_id", "started_at"}),),
    ignores=is_nothing_by_name("operation", "TRY_CAST(cost_usd AS DOUBLE) > 0"),
    started=time_of("started_at", "started_at"),
    given={name: name for name in STRUCTURE}
    | {
        "user_id": "coalesce(nullif(user_id, ''), user_hash)",
        "api_key": "coalesce(nullif(api_key, ''), key_hash)",
        "operation": kind_of_name("operation"),
        "service_tier": service_tier("service_tier"),
        "tags": tags_of("tags"),
    },
    failures_say_zero=False,
)
