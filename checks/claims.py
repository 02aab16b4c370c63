"""A data-quality rule and its result in Dagster's words.

Belongs here: translating routing_pipeline.data_quality.expectations for asset checks. Does not belong here: rules, and evaluating them.
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from assets.shown import rounded
from routing_pipeline.data_quality.expectations import CheckResult, Expectation

SEVERITY = {"blocking": dg.AssetCheckSeverity.ERROR, "warning": dg.AssetCheckSeverity.WARN}


def specs(suite: Sequence[Expectation], asset: dg.AssetsDefinition) -> list[dg.AssetCheckSpec]:
    """One check per rule; a blocking one stops everything downstream of the asset when it fails."""
    return [
        dg.AssetCheckSpec(
            name=rule.name,
            asset=asset,
            description=f"{rule.claim}. {rule.why}.",
            blocking=rule.severity == "blocking",
        )
        for rule in suite
    ]


def results(checks: Sequence[CheckResult], asset: dg.AssetsDefinition) -> Iterator[dg.AssetCheckResult]:
    """What came out, with the observed values; what could not be compared with anything passes and says so."""
    for check in checks:
        yield dg.AssetCheckResult(
            check_name=check.name,
            asset_key=asset.key,
            passed=check.passed,
            severity=SEVERITY[check.severity],
            description=check.observed,
            metadata=_metadata(check),
        )


def _metadata(check: CheckResult) -> dict[str, dg.MetadataValue]:
    shown: dict[str, dg.MetadataValue] = {"outcome": dg.MetadataValue.text(check.outcome.replace("_", " "))}
    shown |= {name: dg.MetadataValue.float(rounded(value)) for name, value in check.numbers.items()}
    if check.items:
        shown["where"] = dg.MetadataValue.table([dg.TableRecord({"name": item.name, "observed": item.observed}) for item in check.items])
    if check.items_left_out:
        shown["where_left_out"] = dg.MetadataValue.int(check.items_left_out)
    return shown
