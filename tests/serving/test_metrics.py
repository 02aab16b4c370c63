"""Names from logs as labels: whatever they are, a scrape can be read, and two names stay two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from routing_pipeline.report.model import Report
from routing_pipeline.serving import metrics
from routing_pipeline.storage.home import Home

HOSTILE = (
    'quote " and {label="x"} 1',
    "back\\slash\\n",
    "line\nroutingpipeline_spend_usd 0\n# EOF",
    "\u202eright to left\u202c",
    "\x1b[31mred\x00",
    "m" * 1_000_000,
    "{{ range query }}",
    "<script>alert(1)</script>",
    "\N{COLLISION SYMBOL}",
    "",
)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_a_short_label_and_adds_no_sample(name: str, full_of: Callable[[str], Report], tmp_path: Path) -> None:
    def samples(text: str) -> list[tuple[str, dict[str, str]]]:
        home = Home(tmp_path / str(len(text))).create()
        home.runs.begin("run", "0123456789abcdef")
        home.runs.keep("run", full_of(text), None, {})
        families = text_string_to_metric_families(metrics.exposition(home).decode())
        return [(sample.name, sample.labels) for family in families for sample in family.samples]

    found = samples(name)
    assert [each for each, _ in found] == [each for each, _ in samples("plain")]
    for _, labels in found:
        assert all(len(value) <= metrics.LONGEST_LABEL and (value.isprintable() or not value) for value in labels.values())


def test_plain_names_stay_and_others_are_never_mistaken_for_one_another() -> None:
    assert metrics.label("gpt-4o (eu)") == "gpt-4o (eu)"
    names = ["m" * 90, "m" * 91, "a\u202eb", "ab", "a\u202db", "a b", "a\nb", "\ud800", "\ud801", metrics.label("m" * 90)]
    labels = [metrics.label(name) for name in names]
    assert len(set(labels)) == len(names)
    for label in labels:
        label.encode()
