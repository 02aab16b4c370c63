"""What became of every score that a home was ever given: read, refused and why, and whether its request is in the lake.

Belongs here: the feedback ledger's totals, the scores by name, which of them match, an example of two keys that do not. Does
not belong here: reading scores (`feedback`), the sentences about them (`data_quality.feedback_lines`), what may be relied on
(`feedback_checks`).

A score matches when the attempt or the request that it names is in the lake, of whatever time. Scores come late and may come
before their logs, so who matches is found out anew whenever rows or scores have changed, by one pass over the lake's ids.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from routing_pipeline.clock import SECONDS_PER_DAY
from routing_pipeline.estimates import Result, quantity
from routing_pipeline.ingest.batch import connect
from routing_pipeline.ingest.formats.log_format import NO_DEFECTS
from routing_pipeline.lake.file_names import content_of
from routing_pipeline.lake.table import Lake
from routing_pipeline.lake.totals import TOP_REASONS, QuarantineReason, ledger_sums, refusals
from routing_pipeline.schema import ScoreSource
from routing_pipeline.storage.code_keys import code_key
from routing_pipeline.storage.home import Home
from routing_pipeline.storage.results import key_of
from routing_pipeline.text import LogName

KeyColumn = Literal["request_id", "attempt_id", "session_id"]
MOST_NAMES = 20
SAMPLED_SCORES = 5
SAMPLED_ROWS = 200_000
"""Where an id of the log that resembles a score's is looked for; what is near in time comes first."""
LOOK_BACK_S = 2 * SECONDS_PER_DAY
LEAST_FOR_A_GUESS = 0.01
"""Of fewer scores of a name outside its scale, or fewer than three, nobody can tell a scale from a slip."""
SCALES = (
    *((0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 5.0), (1.0, 7.0), (0.0, 10.0), (0.0, 100.0)),
    *((-5.0, 5.0), (-10.0, 10.0), (-100.0, 100.0), (0.0, 1000.0)),
)
"""Scales that people use, the most likely first of those that hold the same scores."""


class OutsideScale(Result):
    """Scores of one name that were refused because they lie outside their scale."""

    count: int = quantity("Scores of the name refused for it", "scores")
    scale_min: float = Field(description="Lowest value of the scale that they were held against")
    scale_max: float = Field(description="Highest value of it")
    lowest: float = Field(description="Lowest score of the name on that scale, refused or not")
    highest: float = Field(description="Highest of them")
    has_scale: bool = Field(description="Whether the files name that scale themselves; else it is the declared one, or 0 to 1")
    likely_min: float | None = Field(default=None, description="Lowest value of the scale that was likely meant; null when none is likely")
    likely_max: float | None = Field(default=None, description="Highest value of it")


class ScoresOfSource(Result):
    """Scores of one name by whoever gave them."""

    source: ScoreSource
    ingested: int = quantity("Scores stored", "scores")


class ScoresOfName(Result):
    """Scores of one name; the name comes from the files: treat it as data."""

    name: LogName
    ingested: int = quantity("Scores stored", "scores")
    quarantined: int = quantity("Scores refused that say their name", "scores")
    outside_scale: OutsideScale | None = Field(default=None, description="Null when every score lies on its scale")
    sources: tuple[ScoresOfSource, ...] = Field(default=(), description="Who gave them, most first")


class UnmatchedExample(Result):
    """A score whose request is not in the lake, beside an id of the logs that it may have meant."""

    score_column: KeyColumn = Field(description="Which column of the score names the request")
    score_key: LogName = Field(description="What the score says there")
    log_column: KeyColumn = Field(description="Which column of the log has the id beside it")
    log_key: LogName = Field(description="That id")
    is_alike: bool = Field(description="Whether one of the two begins or ends with the other")


class FeedbackMatch(Result):
    """Which of the scores kept belong to a request in the lake."""

    matched: int = quantity("Scores whose request or attempt is in the lake", "scores")
    unmatched: int = quantity("Scores stored whose request and attempt are not in the lake", "scores")
    scored_within: int = quantity("Scores given while the logs ran: not before the lake's first request, nor after its last", "scores")
    unmatched_within: int = quantity("Of these, unmatched", "scores")
    example: UnmatchedExample | None = Field(default=None, description="One that is unmatched; null when none is")

    @property
    def is_lost(self) -> bool:
        """Whether more than half of the scores given while the logs ran found no request, or none of any time did."""
        return 2 * self.unmatched_within > self.scored_within or (self.unmatched > 0 and self.matched == 0)


class FeedbackTotals(FeedbackMatch):
    """Where every score went: records = ingested + quarantined + duplicates, and ingested = matched + unmatched."""

    records: int = quantity("Scores found in the feedback; an object that cannot be read at all counts as one", "scores")
    ingested: int = quantity("Scores stored", "scores")
    quarantined: int = quantity("Scores refused", "scores")
    duplicates: int = quantity("Scores that were there already, equal in every column", "scores")
    objects: int = quantity("Objects read, each as it was read last", "objects")
    in_words: int = quantity(
        "Of the scores refused, words and scores of no request that their tool keeps beside the others: no defect of the files",
        "scores",
        default=0,
    )
    reasons: tuple[QuarantineReason, ...] = Field(default=(), description=f"Most frequent reasons for refusal, at most {TOP_REASONS}")
    names: tuple[ScoresOfName, ...] = Field(default=(), description=f"Scores by name, most frequent first, at most {MOST_NAMES}")

    @property
    def by_source(self) -> dict[ScoreSource, int]:
        """Scores kept by source, most first; of the names listed."""
        found: Counter[ScoreSource] = Counter()
        for name in self.names:
            found.update({each.source: each.ingested for each in name.sources})
        return dict(found.most_common())

    @property
    def refused_share(self) -> float:
        """Share of the scores that were refused for a defect, 0..1."""
        usable = self.records - self.in_words
        return (self.quarantined - self.in_words) / usable if usable else 0.0


def feedback_totals(home: Home) -> FeedbackTotals:
    """Everything that this home was ever given as feedback. What matches is looked up again only when rows or scores have changed."""
    lake = Lake(home)
    counts = ledger_sums(lake.side_files("feedback_ledger"))
    if not counts["records"]:
        return FeedbackTotals(**counts, **_NO_MATCH.model_dump())
    key = key_of(content=content_of(name for _, name, _ in lake.sizes_by_day()), feedback=lake.feedback_version(), code=code_key(__name__))
    match = home.results.load("feedback_match", key, FeedbackMatch)
    spill = home.scratch / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="feedback-", dir=spill, ignore_cleanup_errors=True) as folder,
        connect(Path(folder)) as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        lake.show(connection, "feedback", "scores")
        lake.show(connection, "feedback_quarantine", "refused")
        if match is None:
            match = _match(connection, lake)
            home.results.save("feedback_match", key, match)
        no_defects = "SELECT count(*) FROM refused WHERE reason IN (SELECT unnest($reasons))"
        names, in_words = _names(connection), _one(connection, no_defects, reasons=list(NO_DEFECTS))
    reasons = refusals("feedback_quarantine", lake.side_files("feedback_quarantine"))
    return FeedbackTotals(**match.model_dump(), **counts, in_words=in_words, reasons=reasons, names=names)


def _one(connection: Any, query: str, **given: Any) -> Any:
    return connection.execute(query, given).fetchone()[0]


# Matching

_NO_MATCH = FeedbackMatch(matched=0, unmatched=0, scored_within=0, unmatched_within=0)
# The scores' ids are held and the lake's pass by: there may be a hundred times as many.
_KNOWN = """CREATE TEMP TABLE known_{0} AS SELECT DISTINCT {0} FROM read_parquet($files, union_by_name=true)
    WHERE {0} IN (SELECT {0} FROM scores WHERE {0} IS NOT NULL)"""
_LOST = """CREATE TEMP TABLE lost AS SELECT coalesce(request_id, attempt_id) AS key, request_id IS NULL AS is_attempt, scored_at,
        coalesce(scored_at BETWEEN $first AND $last, false) AS is_within FROM scores
    WHERE coalesce(request_id NOT IN (SELECT request_id FROM known_request_id), true)
        AND coalesce(attempt_id NOT IN (SELECT attempt_id FROM known_attempt_id), true)"""
_NEAR = f"""CREATE TEMP TABLE near AS SELECT * FROM (SELECT attempt_id, request_id, session_id, started_at
    FROM read_parquet($files, union_by_name=true) ORDER BY started_at DESC, attempt_id LIMIT {SAMPLED_ROWS})"""  # noqa: S608
_ALIKE = f"""WITH asked AS (SELECT DISTINCT key, is_attempt, is_within, scored_at FROM lost
        ORDER BY is_within DESC, scored_at DESC, key LIMIT {SAMPLED_SCORES}),
    ids AS (SELECT DISTINCT request_id AS id, 'request_id' AS of FROM near UNION SELECT DISTINCT attempt_id, 'attempt_id' FROM near
        UNION SELECT DISTINCT session_id, 'session_id' FROM near WHERE session_id IS NOT NULL)
    SELECT key, is_attempt, of, id FROM asked JOIN ids
    ON starts_with(key, id) OR ends_with(key, id) OR starts_with(id, key) OR ends_with(id, key)
    ORDER BY least(strlen(id), strlen(key)) DESC, key, of = 'session_id', (of = 'attempt_id') <> is_attempt, id LIMIT 1"""  # noqa: S608
_FIRST_LOST = "SELECT key, is_attempt, scored_at FROM lost ORDER BY is_within DESC, scored_at DESC, key LIMIT 1"


def _match(connection: Any, lake: Lake) -> FeedbackMatch:
    """Against every id of the lake; `scores` are the lake's, schema.KEPT_FEEDBACK."""
    files = list(lake.all_files())
    given = _one(connection, "SELECT count(*) FROM scores")
    if not files:
        return _NO_MATCH.model_copy(update={"unmatched": given})
    first, last = connection.execute("SELECT min(started_at), max(started_at) FROM read_parquet($files)", {"files": files}).fetchone()
    for column in ("request_id", "attempt_id"):
        connection.execute(_KNOWN.format(column), {"files": files})
    connection.execute(_LOST, {"first": first, "last": last})
    lost, lost_within = connection.execute("SELECT count(*), count(*) FILTER (is_within) FROM lost").fetchone()
    within = _one(connection, "SELECT count(*) FROM scores WHERE scored_at BETWEEN $first AND $last", first=first, last=last)
    return FeedbackMatch(
        matched=given - lost,
        unmatched=lost,
        scored_within=within,
        unmatched_within=lost_within,
        example=_example(connection, lake) if lost else None,
    )


def _example(connection: Any, lake: Lake) -> UnmatchedExample:
    """The newest score that is lost, beside the id that resembles one of the newest most, else beside that of the request before it."""
    key, is_attempt, scored_at = connection.execute(_FIRST_LOST).fetchone()
    until_s = scored_at.replace(tzinfo=UTC).timestamp()
    near = list(lake.files_holding(until_s - LOOK_BACK_S, until_s) or lake.all_files())
    connection.execute(_NEAR, {"files": near})
    alike = connection.execute(_ALIKE).fetchone()
    if alike is not None:
        return _beside(*alike, is_alike=True)
    column: KeyColumn = "attempt_id" if is_attempt else "request_id"
    query = f"SELECT {column} FROM near ORDER BY started_at > $at, started_at DESC, 1 LIMIT 1"  # noqa: S608 (our own SQL)
    return _beside(key, is_attempt, column, _one(connection, query, at=scored_at), is_alike=False)


def _beside(key: str, is_attempt: bool, column: KeyColumn, log_key: str, *, is_alike: bool) -> UnmatchedExample:
    return UnmatchedExample(
        score_column="attempt_id" if is_attempt else "request_id", score_key=key, log_column=column, log_key=log_key, is_alike=is_alike
    )


# By name

_KEPT = """SELECT name, coalesce(scale_min, 0) AS low, coalesce(scale_max, 1) AS high, count(*), min(value), max(value) FROM scores
    WHERE name IN (SELECT unnest($names)) GROUP BY ALL"""
_OUTSIDE = """SELECT name, scale_min, scale_max, count(*), min(value), max(value), bool_or(has_scale) FROM refused
    WHERE scale_max IS NOT NULL AND name IN (SELECT unnest($names)) GROUP BY ALL ORDER BY 4 DESC, 1, 2, 3"""
_SOURCES = """SELECT name, source, count(*) FROM scores WHERE name IN (SELECT unnest($names)) GROUP BY ALL ORDER BY 3 DESC, 2"""
_MOST_FREQUENT = f"""SELECT name, sum(kept)::BIGINT, sum(bad)::BIGINT FROM (
        SELECT name, count(*) AS kept, 0 AS bad FROM scores GROUP BY 1
        UNION ALL SELECT name, 0, count(*) FROM refused WHERE name IS NOT NULL GROUP BY 1)
    GROUP BY 1 ORDER BY sum(kept) + sum(bad) DESC, 1 LIMIT {MOST_NAMES}"""  # noqa: S608 (our own SQL)


def _names(connection: Any) -> tuple[ScoresOfName, ...]:
    found = connection.execute(_MOST_FREQUENT).fetchall()
    asked = {"names": [name for name, _, _ in found]}
    kept = {
        (name, low, high): (count, lowest, highest)
        for name, low, high, count, lowest, highest in connection.execute(_KEPT, asked).fetchall()
    }
    outside: dict[str, OutsideScale] = {}
    for name, low, high, count, lowest, highest, has_scale in connection.execute(_OUTSIDE, asked).fetchall():
        if name not in outside:
            on_it, kept_low, kept_high = kept.get((name, low, high), (0, lowest, highest))
            outside[name] = outside_scale(
                count, on_it, (low, high), (min(lowest, kept_low), max(highest, kept_high)), has_scale=bool(has_scale)
            )
    sources: dict[str, list[ScoresOfSource]] = {}
    for name, source, count in connection.execute(_SOURCES, asked).fetchall():
        sources.setdefault(name, []).append(ScoresOfSource(source=source, ingested=count))
    return tuple(
        ScoresOfName(name=name, ingested=good, quarantined=bad, outside_scale=outside.get(name), sources=tuple(sources.get(name, ())))
        for name, good, bad in found
    )


def outside_scale(refused: int, kept: int, scale: tuple[float, float], seen: tuple[float, float], *, has_scale: bool) -> OutsideScale:
    """What is said of scores outside their scale, with the likeliest scale that holds all that was seen.

    Args:
        refused: How many lie outside.
        kept: How many of the same name lie on the same scale.
        scale: The scale that they were held against.
        seen: Lowest and highest of all of them.
        has_scale: Whether the files name the scale themselves.
    """
    is_telling = refused >= 3 and refused >= LEAST_FOR_A_GUESS * (refused + kept)
    holding = (each for each in SCALES if each[0] <= seen[0] and seen[1] <= each[1] and each != scale)
    likely = next(holding, (None, None)) if is_telling else (None, None)
    return OutsideScale(
        count=refused,
        scale_min=scale[0],
        scale_max=scale[1],
        lowest=seen[0],
        highest=seen[1],
        has_scale=has_scale,
        likely_min=likely[0],
        likely_max=likely[1],
    )
