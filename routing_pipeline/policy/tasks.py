"""Which tasks there are, cut by what their requests need, and how rows find theirs; which teams rules may name beside spared ones.

Belongs here: choosing the largest, and joining rows to their places. Does not belong here: where tasks are to be cut
(`feasibility.needs`), levels and lengths within them, sums (`cells`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa

from routing_pipeline.feasibility.learned import CONTEXT_CLASSES, is_of
from routing_pipeline.feasibility.needs import NEEDS, Cuts, column_of
from routing_pipeline.policy.unscored_teams import MAX_TEAMS

MAX_TASKS = 64
"""Tasks beyond these, by traffic, are counted in the totals and left as they are."""


def edges_reached(column: ibis.expr.types.NumericValue, edges: tuple[float, ...]) -> ibis.expr.types.IntegerValue:
    """How many edges a value reaches; comparisons alone, so that bins and rules agree to the last bit."""
    reached = ibis.literal(0, "int64")
    for edge in edges:
        reached = reached + (column >= edge).cast("int64")
    return reached


def largest_of(final: ibis.Table, column: str, limit: int) -> tuple[str, ...]:
    """The commonest values of a column."""
    counted = final.group_by(column).agg(n=final.count())
    rows = counted.order_by([ibis.desc("n"), ibis.asc(column)]).limit(limit).to_pyarrow().to_pylist()
    return tuple(str(row[column]) for row in rows)


@dataclass(frozen=True)
class Kinds:
    """Tasks, and how they are cut; as in `Binning`."""

    tasks: tuple[str, ...]
    needs: tuple[tuple[tuple[str, bool], ...], ...] = ()
    prompts: tuple[tuple[float | None, float | None], ...] = ()
    teams: tuple[tuple[str, ...], ...] = ()
    in_groups: tuple[str, ...] = ()

    @property
    def edges(self) -> tuple[float, ...]:
        """Lengths of prompt at which tasks are cut."""
        return tuple(sorted({low for low, _ in self.prompts if low is not None}))

    def asked(self, column: str) -> list[float]:
        """By task, 1 where it is cut by a need."""
        return [float(any(name == column for name, _ in needs)) for needs in self.needs]

    @property
    def codes(self) -> list[float]:
        """By task, the number under which `with_tasks` finds its requests."""
        bits = [sum(2**place * ((column_of(need), True) in needs) for place, need in enumerate(NEEDS)) for needs in self.needs]
        places: dict[float | None, int] = {edge: place for place, edge in enumerate(self.edges, 1)} | {None: 0}
        groups = {teams: place for place, teams in enumerate(self.groups)}
        of_teams = [groups[teams] for teams in self.teams] if self.teams else [0] * len(self.tasks)
        return [
            float(bit + 2 ** len(NEEDS) * (places[low] + (len(self.edges) + 1) * group))
            for bit, (low, _), group in zip(bits, self.prompts, of_teams, strict=True)
        ]

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The groups of teams that tasks are cut by."""
        return tuple(sorted(set(self.teams)))


def kinds_of(final: ibis.Table, cuts: Cuts) -> Kinds:
    """The largest tasks, cut where they are to be: parts that hold no request are none."""
    if not cuts.is_cut:
        return Kinds(largest_of(final, "task_type", MAX_TASKS))
    columns = [column_of(need) for need in NEEDS if any(need in needs for needs in cuts.needs.values())]
    reached = edges_reached(_length_at_least(final, cuts.edges), cuts.edges)
    grouped = with_groups(final.mutate(reached=reached), cuts.teams)
    rows = grouped.select("task_type", "reached", "team_group", **{each: grouped[each].fill_null(False) for each in columns})
    counted = rows.group_by(*rows.columns).agg(n=rows.count()).to_pyarrow().to_pylist()
    parts: dict[tuple[str, tuple[tuple[str, bool], ...], tuple[float | None, float | None], tuple[str, ...]], int] = {}
    bounds = (None, *cuts.edges, None)
    beyond = set()
    for row in counted:
        task = row["task_type"]
        if row["team_group"] is None:
            beyond.add(task)
            continue
        needs = tuple((column_of(need), bool(row[column_of(need)])) for need in cuts.needs.get(task, ()))
        prompts = bounds[row["reached"] : row["reached"] + 2] if task in cuts.long_tasks else (None, None)
        key = (task, needs, (prompts[0], prompts[1]), cuts.teams[row["team_group"]] if cuts.teams else ())
        parts[key] = parts.get(key, 0) + row["n"]
    largest = sorted(parts, key=lambda each: (-parts[each], each[0], each[1], each[2][0] or 0.0, each[3]))[:MAX_TASKS]
    tasks, needs_of, prompts_of, teams_of = zip(*largest, strict=True) if largest else ((), (), (), ())
    if not cuts.teams:
        return Kinds(tasks, needs_of, prompts_of)
    beyond |= {task for task, *_ in parts.keys() - set(largest)}
    return Kinds(tasks, needs_of, prompts_of, teams_of, tuple(sorted(set(tasks) - beyond)))


def with_groups(final: ibis.Table, groups: tuple[tuple[str, ...], ...]) -> ibis.Table:
    """Rows with team_group, the place of the group that holds their team: null where none does, 0 where there are no groups."""
    if not groups:
        return final.mutate(team_group=ibis.literal(0, "int64"))
    names = tuple(team for group in groups for team in group)
    places = [float(place) for place, group in enumerate(groups) for _ in group]
    teams = lookup(names, "grouped", group_of_team=places)
    rows = final.left_join(teams, final.team == teams.grouped_key)
    return rows.mutate(team_group=rows.group_of_team.cast("int64")).drop("grouped_key", "grouped_place", "group_of_team")


def with_tasks(final: ibis.Table, kinds: Kinds, **columns: list[Any]) -> ibis.Table:
    """Rows with task_place (null beyond the largest tasks), is_need_known, and columns that are given by task."""
    if not kinds.needs:
        tasks = lookup(kinds.tasks, "task", **columns)
        return final.left_join(tasks, final.task_type == tasks.task_key).mutate(is_need_known=ibis.literal(True))
    asked = {column_of(need): kinds.asked(column_of(need)) for need in NEEDS if any(kinds.asked(column_of(need)))}
    names = tuple(dict.fromkeys(kinds.tasks))
    by_name = {column: [values[kinds.tasks.index(name)] for name in names] for column, values in asked.items()}
    cut = lookup(names, "cut", **{f"cut_{column}": values for column, values in by_name.items()})
    rows = with_groups(final.left_join(cut, final.task_type == cut.cut_key), kinds.groups)
    code, is_known = ibis.literal(0, "int64"), ibis.literal(True)
    for place, need in enumerate(NEEDS):
        column = column_of(need)
        if column in asked:
            is_asked = (rows[f"cut_{column}"] > 0).fill_null(False)
            code = code + ibis.ifelse(is_asked & rows[column].fill_null(False), ibis.literal(2**place, "int64"), ibis.literal(0, "int64"))
            is_known = is_known & (~is_asked | rows[column].notnull())
    is_known = is_known & rows.team_group.notnull()
    reached = edges_reached(_length_at_least(rows, kinds.edges), kinds.edges) + (len(kinds.edges) + 1) * rows.team_group.fill_null(0)
    code = code + 2 ** len(NEEDS) * reached
    rows = rows.mutate(kind_code=code.cast("float64"), is_need_known=is_known)
    tasks = lookup(kinds.tasks, "task", task_code=kinds.codes, **columns)
    return rows.left_join(tasks, [rows.task_type == tasks.task_key, rows.kind_code == tasks.task_code])


def _length_at_least(rows: ibis.Table, edges: tuple[float, ...]) -> ibis.expr.types.NumericValue:
    """Tokens of the prompt. What failed often has none in the log: few prompts are long, but one that was refused for its length is."""
    if not edges or "error_type" not in rows.columns:
        return rows.prompt_tokens.fill_null(0)
    of_refused = ibis.ifelse(is_of(rows.error_type, CONTEXT_CLASSES), math.ceil(edges[0]), 0)
    found: ibis.expr.types.NumericValue = ibis.coalesce(rows.prompt_tokens.nullif(0), of_refused)
    return found


UNCUT = Cuts({}, (), frozenset())


NO_OTHER_TEAM = ("no other team",)
"""What rules ask for where every team is spared: nothing has it."""


def teams_beside(final: ibis.Table, left: frozenset[str]) -> tuple[str, ...]:
    """The largest teams but those."""
    named = final.filter(final.team.notnull())
    return tuple(team for team in largest_of(named, "team", MAX_TEAMS + len(left)) if team not in left)[:MAX_TEAMS] or NO_OTHER_TEAM


def with_numbers(rows: ibis.Table, **numbers: float) -> ibis.Table:
    """The rows with the same numbers beside each of them: as part of its text they would make a query of every window its own, to be compiled anew."""
    return rows.cross_join(ibis.memtable(pa.table({name: pa.array([value], pa.float64()) for name, value in numbers.items()})))


def lookup(names: tuple[str, ...], column: str, **columns: list[Any]) -> ibis.Table:
    """A small table from names to their place, to join on: names from logs never become part of a query's text."""
    return ibis.memtable(
        pa.table(
            {
                f"{column}_key": pa.array(list(names), pa.string()),
                f"{column}_place": pa.array(range(len(names)), pa.int64()),
                **{name: pa.array(values, pa.float64()) for name, values in columns.items()},
            }
        )
    )
