"""The table of operations: what a row may take, and that every face has a place for each."""

from __future__ import annotations

import pytest

from routing_pipeline.estimates import Result
from routing_pipeline.operations.table import OPERATIONS, Operation, assets_under, table
from routing_pipeline.report.model import Report
from routing_pipeline.serving.mcp.tools import TOOLS


class Found(Result):
    requests: int


def find(requests: int) -> Found:
    return Found(requests=requests)


def test_a_report_has_a_section_for_every_asset() -> None:
    assert {each.name for each in OPERATIONS.values() if each.group} <= set(Report.model_fields)


def test_every_tool_stands_for_an_operation() -> None:
    assert {tool.operation for tool in TOOLS} <= {each.name for each in OPERATIONS.values() if each.group}


def test_a_row_that_takes_what_nothing_gives_is_refused() -> None:
    with pytest.raises(ValueError, match="found takes answers, request, which nothing gives"):
        table([Operation("found", Found, find, ("request", "answers.count", "scope"))])


def test_two_operations_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two operations are called found"):
        table([Operation("found", Found, find, ("requests",))] * 2)


def test_an_operation_without_an_asset_stands_for_the_one_that_it_is_part_of() -> None:
    assert "window_costs.budgets" in OPERATIONS["cost_drivers"].inputs
    assert assets_under(OPERATIONS["cost_drivers"], OPERATIONS) == ("routing_evidence", "routing_costs")
    assert assets_under(OPERATIONS["routing_costs"], OPERATIONS) == ("budget_projection",)
