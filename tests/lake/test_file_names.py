"""Which rows a set of data files holds, told from their names."""

from __future__ import annotations

from routing_pipeline.lake.file_names import content_of, joined_name

FIRST, SECOND = (f"/home/lake/data/{folder}/batch-0/2026-11-23-0.parquet" for folder in ("5f", "a0"))


def test_files_of_two_commits_are_told_apart_although_they_are_called_alike() -> None:
    assert content_of([FIRST]) != content_of([SECOND])


def test_a_joined_file_stands_for_those_that_it_was_joined_from_wherever_the_lake_lies() -> None:
    joined = f"/home/lake/data/77/{joined_name(20_780, [FIRST, SECOND])}"
    assert content_of([joined]) == content_of([SECOND, FIRST]) == content_of([each.replace("/home", "/moved") for each in (FIRST, SECOND)])
