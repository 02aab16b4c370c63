"""Rows of a window with the propensities that published weights are.

Belongs here: which rows are completed. Does not belong here: the weights (`rules.published_weights`), making a window (`window`).
"""

from __future__ import annotations

import ibis

from routing_pipeline.rules.published_weights import published_weights, with_published
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.window.engine import Engine
from routing_pipeline.window.rows import rows_at
from routing_pipeline.window.scope import AnalysisScope
from routing_pipeline.window.version_changes import sample_of_today


def requests_of(home: Home, engine: Engine, scope: AnalysisScope) -> ibis.Table:
    """All rows of the kind `chat`."""
    return with_published(rows_at(engine, scope.requests_uri), published_weights(home))


def sample_of(home: Home, engine: Engine, scope: AnalysisScope) -> ibis.Table:
    """Those that estimates rest on."""
    return with_published(sample_of_today(home, engine, scope), published_weights(home))


def version_of(home: Home, _: AnalysisScope) -> str:
    """Changes with what was published."""
    return key_of(weights=published_weights(home).model_dump(mode="json"))
