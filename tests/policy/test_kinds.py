"""Tasks that are cut by what their requests need: cells, conditions, and what stays as it was."""

from __future__ import annotations

from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest

from routing_pipeline.errors import UnusableInputError
from routing_pipeline.parameters import Parameters
from routing_pipeline.policy import cells as cells_, scores
from routing_pipeline.policy.binning import Binning, binning_of
from routing_pipeline.policy.evidence import infeasible_because
from routing_pipeline.policy.halves import one_hot
from routing_pipeline.policy.kinds import binning_by_needs, window_needs
from routing_pipeline.policy.rule_blocks import blocks_of, fallbacks, shares_of
from routing_pipeline.policy.segments import Segment, label, segments_of, when
from routing_pipeline.policy.tasks import NO_OTHER_TEAM
from routing_pipeline.recommendation.refused_rules import refuse_infeasible
from routing_pipeline.rules.reading import read_given_rules
from tests.simulation import worlds

WORLD = worlds.World(skills=(0.6, 0.9), prices=(1.0, 4.0), speeds=(500.0, 900.0), demands=(0.5, 1.0), explored=1.0)
CHEAP, DEAR = WORLD.models


def drawn(n: int = 4_000, **columns: Any) -> pa.Table:
    rng = np.random.default_rng(3)
    rows = worlds.logged(WORLD, worlds.contexts(WORLD, n, rng), rng)
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return rows


def image(n: int = 4_000, share: float = 0.1, unlogged: float = 0.0) -> pa.Array:
    rng = np.random.default_rng(4)
    return pa.array(rng.random(n) < share, mask=rng.random(n) < unlogged)


def binned(rows: pa.Table, **asked: Any) -> Binning:
    requests = ibis.memtable(rows)
    return binning_by_needs(requests, window_needs(requests, Parameters.model_validate(asked)))


KNOWN = {"models": {CHEAP: {"image": False}, DEAR: {"image": True}}}


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"has_image": pa.nulls(4_000, pa.bool_())},
        {"has_image": pa.array([False] * 4_000), "has_tools": pa.nulls(4_000, pa.bool_())},
    ],
)
def test_where_no_needs_are_logged_or_none_varies_cells_are_those_without_needs_to_the_byte(flags: dict[str, Any]) -> None:
    rows = drawn(**flags)
    before, after = binning_of(ibis.memtable(drawn())), binned(rows)
    assert before.to_json() == after.to_json()
    assert "infeasible" not in after.to_json()
    plain, cut = cells_.aggregate(ibis.memtable(drawn()), before), cells_.aggregate(ibis.memtable(rows), after)
    assert plain.equals(cut, check_metadata=True)


def test_a_task_is_cut_by_a_need_and_rules_ask_for_it() -> None:
    rows = drawn(has_image=image())
    binning = binned(rows, **KNOWN)
    assert sorted(zip(binning.tasks, binning.needs, strict=True)) == [
        (task, (("has_image", holds),)) for task in WORLD.tasks for holds in (False, True)
    ]
    assert Binning.from_json(binning.to_json()) == binning
    conditions = [when(binning, task, 0, binning.levels) for task in range(4)]
    assert {each.has_image for each in conditions} == {True, False}
    assert label(WORLD.tasks[0], conditions[0]) == f"{WORLD.tasks[0]}, without images"
    # Every request is in exactly one cell, under the condition of its kind.
    cells = cells_.cells_of(cells_.aggregate(ibis.memtable(rows), binning))
    table = ibis.memtable(rows)
    for task, condition in enumerate(conditions):
        held = table.filter(condition.model_copy(update={"complexity": None}).holds(table)).count().execute()
        assert cells.sums["n"][cells.task == task].sum() == pytest.approx(held)


def test_a_model_is_judged_chosen_and_fallen_back_on_only_where_it_may_serve() -> None:
    binning = binned(drawn(has_image=image()), **KNOWN)
    cube = scores.score_cube(cells_.cells_of(cells_.aggregate(ibis.memtable(drawn(has_image=image())), binning)))
    cheap = binning.models.index(CHEAP)
    for place, segment in enumerate(segments_of(cube.cells)):
        has_image = dict(binning.needs[segment.task])["has_image"]
        assert cube.all.supported[place, cheap] == (not has_image)
        assert (infeasible_because(cube, (segment.task,), cheap) is not None) == has_image
    to_dear = np.full(len(cube.segments), 1 - cheap)
    found = {block.condition.has_image: fallbacks(cube, block) for block in blocks_of(cube, one_hot(to_dear, cube))}
    assert found == {False: (CHEAP,), True: ()}
    # What is written as rules reads back as the same policy.
    mixed = np.array([cheap if not dict(binning.needs[each.task])["has_image"] else cube.keep for each in cube.segments])
    rules = [
        {"when": block.condition.model_dump(exclude_none=True), "route": cube.models[block.arms[0]]}
        for block in blocks_of(cube, one_hot(mixed, cube))
    ]
    read = read_given_rules(rules, Parameters()).rules
    assert np.array_equal(shares_of(cube, read), one_hot(mixed, cube))


def test_a_task_is_cut_by_needs_and_by_teams_at_once() -> None:
    requests = ibis.memtable(drawn(has_image=image()))
    needs = window_needs(requests, Parameters.model_validate(KNOWN))
    binning = binning_by_needs(requests, needs, (("red",), ("blue",)))
    parts = set(zip(binning.tasks, binning.needs, binning.kind_teams, strict=True))
    assert len(parts) == len(binning.tasks) == 2 * len(set(binning.tasks))
    counted = cells_.aggregate(requests, binning).group_by("cell_task").aggregate([("n", "sum")])
    assert counted.num_rows == len(binning.tasks)
    assert sum(counted["n_sum"].to_pylist()) == requests.count().execute()


def test_requests_of_which_the_need_is_not_logged_are_left_as_they_are() -> None:
    rows = drawn(has_image=image(unlogged=0.05))
    cells = cells_.cells_of(cells_.aggregate(ibis.memtable(rows), binned(rows, **KNOWN)))
    assert cells.sums["n"][cells.level == cells.binning.levels].sum() == rows["has_image"].null_count
    assert cells.sums["n"].sum() == rows.num_rows


def test_a_need_that_is_seldom_logged_but_shows_is_asked_of_the_whole_task() -> None:
    binning = binned(drawn(has_image=image(unlogged=0.5)), **KNOWN)
    assert (binning.needs, len(binning.tasks)) == ((), 2)
    assert {(task, arm) for task, arm, _ in binning.infeasible} == {(task, binning.models.index(CHEAP)) for task in (0, 1)}


def test_prompts_beyond_the_limit_of_a_model_are_a_kind_of_their_own() -> None:
    rows = drawn()
    tokens = rows["prompt_tokens"].to_numpy(zero_copy_only=False)
    limit = int(np.nanquantile(tokens, 0.9))
    binning = binned(rows, models={CHEAP: {"context_tokens": limit}, DEAR: {"context_tokens": 10**6}})
    assert set(binning.prompts) == {(None, limit + 1.0), (limit + 1.0, None)}
    cheap = binning.models.index(CHEAP)
    assert {binning.prompts[task][0] for task, arm, _ in binning.infeasible if arm == cheap} == {limit + 1.0}
    for task, (low, _) in enumerate(binning.prompts):
        condition = when(binning, task, 0, binning.levels)
        assert condition.prompt_tokens is not None
        assert (condition.prompt_tokens.gte, condition.prompt_tokens.lt) == ((None, limit + 1.0) if low is None else (limit + 1.0, None))


def test_a_policy_takes_models_from_tasks_and_leaves_teams_alone() -> None:
    first = WORLD.tasks[0]
    binning = binned(
        drawn(), policy={"restrictions": [{"task_types": [first], "never_models": [CHEAP]}, {"teams": ["red"], "only_models": [DEAR]}]}
    )
    place = binning.tasks.index(first)
    assert [(task, arm) for task, arm, _ in binning.infeasible] == [(place, binning.models.index(CHEAP))]
    assert binning.teams == ("blue",)
    assert binned(drawn(), policy={"restrictions": [{"teams": ["red", "blue"], "only_models": [DEAR]}]}).teams == NO_OTHER_TEAM


def refused(rules: list[dict[str, Any]], rows: pa.Table, **asked: Any) -> str | None:
    scope = worlds.scope_of(rows, **Parameters.model_validate(asked).model_dump())
    try:
        refuse_infeasible(read_given_rules(rules, scope.parameters), ibis.memtable(rows), scope)
    except UnusableInputError as error:
        return str(error)
    return None


def test_rules_by_hand_that_send_what_cannot_be_served_are_refused_with_the_count() -> None:
    rows = drawn(has_image=image())
    n = int(np.sum(rows["has_image"].to_numpy(zero_copy_only=False)))
    said = refused([{"id": "all", "route": CHEAP}], rows, **KNOWN)
    assert said is not None
    assert said.startswith(f"rule all sends {n} requests of the window to {CHEAP} that it cannot serve: it does not take images")
    assert refused([{"when": {"has_image": False}, "route": CHEAP}], rows, **KNOWN) is None
    assert refused([{"route": DEAR}], rows, **KNOWN) is None
    assert "is not known" in str(refused([{"route": "never-seen"}], rows, **KNOWN))
    # Where nothing is logged, nothing is asked.
    assert refused([{"route": CHEAP}], drawn(), **KNOWN) is None


def test_rules_by_hand_that_break_the_policy_are_refused_with_the_count() -> None:
    rows = drawn()
    red = sum(team == "red" for team in rows["team"].to_pylist())
    policy = {"restrictions": [{"teams": ["red"], "only_models": [DEAR]}]}
    said = refused([{"route": DEAR}], rows, policy=policy)
    assert said is not None
    assert f"sends {red:,} requests" in said
    assert refused([{"when": {"team": "blue"}, "route": DEAR}], rows, policy=policy) is None
    assert "leaves this task alone" in str(refused([{"route": DEAR}], rows, policy={"leave_alone": [WORLD.tasks[1]]}))


def test_rules_per_session_are_refused_for_what_any_request_of_the_session_needs() -> None:
    assert "cannot serve" in str(refused([{"per": "session", "route": CHEAP}], drawn(has_image=image()), **KNOWN))


def test_rules_name_teams_only_where_others_send_such_requests_too() -> None:
    rows = drawn()
    first, second = WORLD.tasks
    red_alone = np.where(np.array(rows["task_type"].to_pylist()) == first, "red", either())
    requests = ibis.memtable(worlds.with_column(rows, "team", red_alone.tolist()))
    needs = window_needs(requests, Parameters())
    binning = binning_by_needs(requests, needs, (("red",), ("blue",)))
    assert binning.in_groups == tuple(sorted((first, second)))
    assert Binning.from_json(binning.to_json()) == binning
    asked = {(name, when(binning, task, 0, binning.levels).team) for task, name in enumerate(binning.tasks)}
    assert asked == {(first, None), (second, ("red",)), (second, ("blue",))}
    some_nameless = [None if place % 100 == 0 else team for place, team in enumerate(red_alone.tolist())]
    nameless = ibis.memtable(worlds.with_column(rows, "team", some_nameless))
    beyond = binning_by_needs(nameless, needs, (("red",), ("blue",)))
    assert beyond.in_groups == ()
    assert all(when(beyond, task, 0, beyond.levels).team for task in range(len(beyond.tasks))), "a rule must not reach who has no team"


def test_rules_that_differ_only_in_teams_are_one_rule_and_decide_each_request_alike() -> None:
    rows = worlds.with_column(drawn(), "team", either().tolist())
    requests = ibis.memtable(rows)
    binning = binning_by_needs(requests, window_needs(requests, Parameters()), (("red",), ("blue",)))
    cube = scores.score_cube(cells_.cells_of(cells_.aggregate(requests, binning)))
    rng = np.random.default_rng(7)
    by_task = {name: int(rng.integers(0, 2)) for name in sorted(set(binning.tasks))}
    policies = [np.array([by_task[each.task_type] for each in cube.segments]), *rng.integers(0, cube.keep + 1, (20, len(cube.segments)))]
    assert [block.condition.team for block in blocks_of(cube, one_hot(policies[0], cube))] == [None] * len(set(by_task.values()))
    drawn_rows = rows.select(["task_type", "complexity", "prompt_tokens", "team"]).take(rng.integers(0, rows.num_rows, 300)).to_pylist()
    for actions in policies:
        blocks = blocks_of(cube, one_hot(actions, cube))
        for request in drawn_rows:
            (place,) = (place for place, each in enumerate(cube.segments) if holds(binning, each, request))
            met = [block for block in blocks if block.condition.matches(request)]
            assert len(met) <= 1
            assert (met[0].arms if met else [cube.keep]) == [actions[place]]
        read = read_given_rules(
            [{"when": each.condition.model_dump(exclude_none=True), "route": cube.models[each.arms[0]]} for each in blocks], Parameters()
        )
        assert np.array_equal(shares_of(cube, read.rules), one_hot(actions, cube))


def either(n: int = 4_000) -> np.ndarray[tuple[int, ...], np.dtype[np.str_]]:
    """A team by request, whatever it asks."""
    return np.where(np.random.default_rng(5).random(n) < 0.5, "red", "blue")


def holds(binning: Binning, segment: Segment, request: dict[str, Any]) -> bool:
    """Whether a segment holds a request: by its parts, without any rule."""
    if segment.task_type != request["task_type"] or request["team"] not in binning.kind_teams[segment.task]:
        return False
    level = sum(request[binning.axis] >= edge for edge in binning.level_edges[segment.task])
    return segment.first <= level < segment.last
