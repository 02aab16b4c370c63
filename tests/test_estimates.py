"""What every result keeps to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from routing_pipeline.estimates import Estimate


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_result_holds_no_nan_and_no_infinity(value: float) -> None:
    with pytest.raises(ValidationError):
        Estimate(estimate=value, low=0, high=1)
