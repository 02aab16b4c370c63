"""Trying again later while a service is down: what a schedule starts waits for it, what a person starts does not.

Belongs here: asking Dagster for another try of the step. Does not belong here: what stands in when the tries are used up.
"""

import dagster as dg

IMPATIENT = ".dagster/routing-pipeline-impatient"
"""Tag of runs that somebody is waiting for at a terminal. The UI does not show tags that begin like that; its tag `why` says it to people."""
STORE_RETRIES = 3
STORE_RETRY_AFTER_S = 600.0


def later(context: dg.AssetExecutionContext, retries: int, wait_s: float, why: str) -> None:
    """End this try of the step and ask for another one in a while; returns when the tries are used up, or nobody waits.

    Raises:
        RetryRequested: Dagster runs the step again after `wait_s`.
    """
    if IMPATIENT in context.run.tags or context.retry_number >= retries:
        return
    context.log.warning("%s; try %d of %d follows in %.0f s", why, context.retry_number + 1, retries, wait_s)
    raise dg.RetryRequested(max_retries=retries, seconds_to_wait=wait_s)
