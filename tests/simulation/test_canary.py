"""Roll-outs that are looked at every hour: how many harmful ones go through, and how many harmless ones are turned back."""

from __future__ import annotations

import pytest

from tests.simulation.canary_worlds import World, outcome_of

MARGIN = 0.03
RUNS = 40


def shares(world: World, every_h: int = 6) -> dict[str, float]:
    ends = [outcome_of(world, seed, every_h)[0] for seed in range(RUNS)]
    return {end: ends.count(end) / RUNS for end in ("through", "turned back", "undecided")}


@pytest.mark.parametrize("is_pass_fail", [False, True])
def test_a_fall_beyond_the_margin_seldom_goes_through(is_pass_fail: bool) -> None:
    found = shares(World(fall=1.1 * MARGIN, margin=MARGIN, sessions_per_hour=20, is_pass_fail=is_pass_fail))
    assert found["through"] <= 0.05, found


@pytest.mark.parametrize("is_pass_fail", [False, True])
def test_a_harmless_change_is_seldom_turned_back_and_goes_through(is_pass_fail: bool) -> None:
    found = shares(World(fall=0.0, margin=MARGIN, sessions_per_hour=20, is_pass_fail=is_pass_fail))
    assert found["turned back"] <= 0.05, found
    assert found["through"] >= 0.8, found


def test_a_large_fall_is_turned_back_within_days() -> None:
    ends = [outcome_of(World(fall=0.25, margin=MARGIN, sessions_per_hour=60), seed, 1) for seed in range(20)]
    assert all(end == "turned back" for end, _ in ends)
    assert max(days for _, days in ends) < 6
