"""The evidence with its cells in the store beside it.

Belongs here: where the cells are written. Does not belong here: what is in them (`policy.evidence`).
"""

from __future__ import annotations

import uuid

import ibis

from routing_pipeline.policy.evidence import gather_evidence
from routing_pipeline.policy.evidence_model import RoutingEvidence
from routing_pipeline.storage.home import Home
from routing_pipeline.window.scope import AnalysisScope


def evidence_with_cells(requests: ibis.Table, scope: AnalysisScope, home: Home) -> RoutingEvidence:
    """`gather_evidence`, its cells shared with all who read this home."""
    # A name of its own for every writer: whoever reads an evidence finds the cells that it was summed up from.
    cells = home.results.beside(f"cells-{uuid.uuid4().hex}.parquet", scope.evidence_key)
    found = gather_evidence(requests, scope, cells_path=cells)
    return found if found.cells_uri is None else found.model_copy(update={"cells_uri": home.results.share(cells)})
