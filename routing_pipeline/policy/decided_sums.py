"""Rows that rules decide about, summed by their cell and by the rule that decides: what a replay scores.

Belongs here: which rule decides for a row, and the one pass over rows that any number of replays follow. Does not belong here: what
a sum is worth under a rule (`policy.replay`), cells (`policy.cells`).

A score is linear in what a row has measured, by numbers that all rows of a cell share. So rows are summed first and scored afterwards:
by cluster, day, cell and the rule of each rule set that decides, which conditions by hand may part where cells do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import pyarrow as pa

from routing_pipeline.policy.binning import FIXED, MISSING, Binning
from routing_pipeline.policy.cells import COST_TODAY, LOGGED_CLIP, Cells, with_cells
from routing_pipeline.policy.counting import as_counted
from routing_pipeline.policy.decisions import FIRST, as_logged, holds, with_first_fields
from routing_pipeline.policy.packed_keys import packed_keys, unpacked, with_packed
from routing_pipeline.policy.prompt_caches import ModelCache, whole_session_rows
from routing_pipeline.policy.units import session_rows
from routing_pipeline.rules.model import NEEDS, Rule, RuleSet
from routing_pipeline.window.conform import half_of
from routing_pipeline.window.engine import held_rows
from routing_pipeline.window.scope import CLUSTERS

UNMOVED = -1
Half = Literal["learn", "prove"]


WEIGHTED = "weighted_"
"""Before the names of sums in which a row that carries its propensity counts by one over it."""


@dataclass(frozen=True)
class DecidedSums:
    """Sums over rows, each by its share where a request without a length is spread over several.

    table: one row for each day, each value of `_keys`, and each decision of the rule sets. Of an outcome it has the number of rows that have
    one (`n_cost`) and the sum over them (`cost`). Of quality it has the number of rows, and both over answers that succeeded (`n_answered`,
    `answered`). Of a judge's scores, where the cells know them, it has the same over answers with one (`n_judged`, `judged`) and over
    those with both (`n_both`, `both_judge`, `both_quality`).
    columns: of the table, by the conditions of a rule set: place of the first rule that holds, UNMOVED where none does.
    """

    table: ibis.Table
    columns: dict[_Conditions, str]

    def under(self, rule_set: RuleSet, half: Half) -> ibis.Table:
        """Of the sessions of one half, with the rule that decides as `decided`."""
        rows = half_of(self.table, half)
        return rows.mutate(decided=rows[self.columns[_conditions(rule_set)]])


_Conditions = tuple[tuple[str, ...], ...]


def _conditions(rule_set: RuleSet) -> _Conditions:
    """All that a decision rests on: two halves of a proposal send elsewhere what the same conditions hold for."""
    return tuple((rule.when.model_dump_json(), rule.per, str(rule.priority), str(rule.route == "unchanged")) for rule in rule_set.rules)


@contextmanager
def decided_sums(requests: ibis.Table, cells: Cells, rule_sets: Sequence[RuleSet], half: Half | None = None) -> Iterator[DecidedSums]:
    """Sums of the rows that these rule sets decide about, evaluated once and kept by the engine, however many replays follow.

    Args:
        requests: conformed rows of the window.
        cells: of the same window; both halves' have the same bins.
        rule_sets: all that are to be replayed.
        half: of its sessions alone; None: of both.
    """
    by_conditions = {_conditions(rule_set): rule_set for rule_set in rule_sets}
    columns = {conditions: f"decided_{place}" for place, conditions in enumerate(by_conditions)}
    with _decided_rows(requests, cells, half) as decided:
        rows = _rows(decided, cells, [rule for rule_set in by_conditions.values() for rule in rule_set.rules])
        rows = rows.mutate(
            is_logged=rows.own_propensity.notnull(),
            **{columns[conditions]: _decided(rows, rule_set) for conditions, rule_set in by_conditions.items()},
        )
        keys = _keys(cells.binning) | {columns[conditions]: range(UNMOVED, len(conditions)) for conditions in by_conditions}
        packed = packed_keys(keys)
        rows = with_packed(rows, packed)
        # In order, so that whoever sums them adds in the same order: the same question, asked again, has the same answer to the last digit.
        summed = rows.group_by("day", *packed).agg(**_sums(rows, cells)).order_by("day", *packed)
        with held_rows(summed) as table:
            keyed = unpacked(table, packed)
            yield DecidedSums(keyed.mutate(is_logged=keyed.is_logged > 0), columns)


def _keys(binning: Binning) -> dict[str, range]:
    """What rows are summed by beside their day and what is decided, and the values that there may be."""
    return {
        "cluster": range(CLUSTERS),
        "cell_task": range(len(binning.tasks) + 1),
        "cell_level": range(binning.levels + 1),
        "cell_length": range(binning.lengths),
        "cell_arm": range(len(binning.models) + 1),
        "cell_is_scored": range(2),
        "is_logged": range(2),
    }


def _sums(rows: ibis.Table, cells: Cells) -> dict[str, ibis.expr.types.NumericScalar]:
    has_time, success = rows.request_latency_ms.notnull(), rows.cell_success
    slow = ibis.ifelse(has_time, rows.cell_slow, ibis.null("float64"))
    values: dict[str, Any] = {"n": ibis.literal(1.0), "calls": rows.cell_calls, "success": success}

    def known(name: str, value: ibis.expr.types.NumericValue, of: ibis.expr.types.NumericValue | None = None) -> None:
        values[f"n_{name}"] = ibis.ifelse(value.notnull(), ibis.literal(1.0) if of is None else of, 0.0)
        values[name] = value if of is None else value * of

    known("cost", rows.request_cost_usd)
    if COST_TODAY in rows.columns:
        known(COST_TODAY, rows[COST_TODAY])
    known("latency", rows.request_latency_ms)
    known("slow", slow)
    values["n_quality"] = rows.quality.notnull().cast("float64")
    known("answered", rows.quality, success)
    if cells.binning.has_judge:
        known("judged", rows.judge_quality, success)
        judge, quality = rows.judge_quality + 0.0 * rows.quality, rows.quality + 0.0 * rows.judge_quality
        values |= {"n_both": ibis.ifelse(quality.notnull(), success, 0.0), "both_judge": judge * success, "both_quality": quality * success}
    sums = {name: (rows.share * value).sum().fill_null(0.0) for name, value in values.items()}
    if cells.weighted is not None:
        logged = ibis.ifelse(rows.own_propensity > LOGGED_CLIP, rows.own_propensity, ibis.literal(LOGGED_CLIP))
        weight = rows.share * ibis.ifelse(rows.is_logged, 1.0 / logged, ibis.literal(1.0))
        sums |= {f"{WEIGHTED}{name}": (weight * value).sum().fill_null(0.0) for name, value in values.items()}
    return sums


@contextmanager
def _decided_rows(requests: ibis.Table, cells: Cells, half: Half | None) -> Iterator[ibis.Table]:
    """What rules decide about: the final requests, or one row a session, which is worked out once."""
    binning = cells.binning
    requests = as_counted(requests, binning.counting)
    wanted = requests if half is None else half_of(requests, half)
    if not binning.caches and not binning.of_sessions:
        yield wanted
        return
    if binning.caches:
        sessions = whole_session_rows(wanted, tuple(ModelCache(*each) for each in binning.caches))
    else:
        sessions = session_rows(
            wanted, binning.slow_above_ms, is_scored_one_by_one=binning.is_scored_one_by_one, by_request=binning.by_request
        )
    with held_rows(sessions) as rows:
        yield rows


def _spread(cells: Cells) -> ibis.Table:
    """Where requests without a length go: one row per (task, level) and bin, with its share and mean length."""
    binning = cells.binning
    rows: dict[str, list[Any]] = {"spread_task": [], "spread_from": [], "to_level": [], "to_length": [], "to_tokens": [], "to_share": []}
    share = cells.length_share
    by_level = binning.axis == "prompt_tokens"
    for task in range(len(binning.tasks)):
        tokens = binning.bin_tokens[task]
        for level in range(binning.levels):
            for length in range(binning.lengths):
                if share[task, level, length] <= 0:
                    continue
                place = level if by_level else length
                values = (
                    task,
                    MISSING if by_level else level,
                    level,
                    length,
                    tokens[place] if place < len(tokens) else 0.0,
                    share[task, level, length],
                )
                for name, value in zip(rows, values, strict=True):
                    rows[name].append(value)
    types = {"to_tokens": pa.float64(), "to_share": pa.float64()}
    return ibis.memtable(pa.table({name: pa.array(values, types.get(name, pa.int64())) for name, values in rows.items()}))


_CARRIED: tuple[str, ...] = (
    "cluster",
    "day",
    "task_type",
    "complexity",
    "prompt_tokens",
    "team",
    "is_hit",
    "cell_task",
    "cell_level",
    "cell_length",
    "cell_arm",
    "request_cost_usd",
    "request_latency_ms",
    "cell_slow",
    "cell_success",
    "cell_calls",
    "cell_is_scored",
    "quality",
    "own_propensity",
    "share",
)


def _carried(rows: ibis.Table) -> tuple[str, ...]:
    """The columns that the replay needs, needs and fields of the session's first request among them where they are there."""
    return (*_CARRIED, *(name for name in rows.columns if name in NEEDS or name in (COST_TODAY, "judge_quality") or name.startswith(FIRST)))


def _rows(requests: ibis.Table, cells: Cells, rules: Sequence[Rule]) -> ibis.Table:
    """Final rows with their cell; requests without a length are spread over lengths, each with its share."""
    binning = cells.binning
    rows = with_cells(requests, binning)
    alone = rows.attempts.fill_null(1) == 1
    # What failed has no length in the log: where tasks are cut by length, it counts as short here as it does in the cells.
    tokens = rows.prompt_tokens.cast("float64")
    is_cut = any(low is not None for low, _ in binning.prompts) and binning.axis != "prompt_tokens"
    rows = (
        with_first_fields(as_logged(rows), rules)
        .mutate(
            prompt_tokens=tokens.fill_null(0.0) if is_cut else tokens,
            is_hit=rows.is_cache_hit.fill_null(False),
            cell_level=ibis.ifelse(rows.cell_level == FIXED, ibis.literal(binning.levels, "int64"), rows.cell_level),
            own_propensity=ibis.ifelse(alone, rows.propensity, ibis.null("float64")),
            share=ibis.literal(1.0),
        )
        .select(*_carried(rows))
    )
    column = "cell_level" if binning.axis == "prompt_tokens" else "cell_length"
    spread = _spread(cells)
    # Every row takes part in one join: two kinds of rows, put together afterwards, would be read twice.
    rows = rows.mutate(spread_of=ibis.ifelse(rows[column] == MISSING, rows.cell_task, ibis.literal(MISSING, "int64")))
    joined = rows.left_join(spread, [rows.spread_of == spread.spread_task, rows.cell_level == spread.spread_from])
    is_spread = joined.to_share.notnull()
    joined = joined.filter(is_spread | (joined[column] != MISSING))
    return joined.mutate(
        cell_level=ibis.ifelse(is_spread, joined.to_level, joined.cell_level),
        cell_length=ibis.ifelse(is_spread, joined.to_length, joined.cell_length),
        prompt_tokens=ibis.ifelse(is_spread, joined.to_tokens, joined.prompt_tokens),
        share=joined.to_share.fill_null(1.0),
    )


def _decided(rows: ibis.Table, rule_set: RuleSet) -> ibis.expr.types.IntegerValue:
    """Place of the first rule that holds, UNMOVED when none does, it changes nothing, or the cache answers."""
    decided = ibis.literal(UNMOVED, "int64")
    ordered = sorted(enumerate(rule_set.rules), key=lambda each: each[1].priority, reverse=True)
    for place, rule in ordered:
        # Tier asked for is not in the logs; such a rule is judged by its other conditions and reported as untestable.
        condition = holds(rule, rows, without=("tier",))
        decided = ibis.ifelse(condition, ibis.literal(UNMOVED if rule.route == "unchanged" else place, "int64"), decided)
    return ibis.ifelse(rows.is_hit, ibis.literal(UNMOVED, "int64"), decided)
