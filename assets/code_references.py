"""Where an asset's code lies, so that whoever develops opens it from the Dagster UI.

Belongs here: links from assets to files. Does not belong here: `code_version`, which says whether code has changed.
"""

import inspect
import os
import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg

from routing_pipeline.operations.table import OPERATIONS

Assets = Sequence[Any]


def with_code_references(assets: Assets) -> Assets:
    """Under `dagster dev`, assets with their files and lines; elsewhere assets as they are, for paths of a machine are nobody's business.

    An asset of the table of operations refers to what computes it first: its body is the same as the others'.
    """
    if not os.environ.get("DAGSTER_IS_DEV_CLI"):
        return assets
    with warnings.catch_warnings():
        # In 1.13 code references are beta; nothing but a link depends on them.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.with_source_code_references(dg.map_asset_specs(_with_computation, assets))


def _with_computation(spec: dg.AssetSpec) -> dg.AssetSpec:
    operation = OPERATIONS.get(spec.key.to_user_string())
    if operation is None:
        return spec
    path, line = inspect.getfile(operation.compute), inspect.getsourcelines(operation.compute)[1]
    computed = dg.LocalFileCodeReference(file_path=path, line_number=line, label=operation.compute.__name__)
    return spec.merge_attributes(metadata={"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[computed])})
