"""What leaves the house: the report and the rule set.

Belongs here: publishing files. Does not belong here: rendering (routing_pipeline.report).
"""

import dagster as dg

from assets.ingest import OWNERS

DELIVERY = {"group_name": "delivery", "owners": OWNERS, "code_version": "1"}


class DeliveryConfig(dg.Config):
    """Folder that receives the report; empty means `report` in the home."""

    out: str = ""
