"""What a person who waits for an ingestion is told."""

from __future__ import annotations

from routing_pipeline.ingest.pace import EVERY_S, Pace


def test_amount_rate_and_time_left_are_told_now_and_then() -> None:
    now, told = [0.0], list[str]()
    pace = Pace(told.append, lambda: now[0])
    pace("reading logs", 1_000_000, 4_000_000_000)
    now[0] = EVERY_S
    pace("reading logs", 0, 4_000_000_000)
    now[0] = 40.0
    pace("reading logs", 1_200_000_000, 4_000_000_000)
    pace("reading logs", 1_300_000_000, 4_000_000_000)
    now[0] = 8_000.0
    pace("reading logs", 2_000_000_000, 4_000_000_000)
    assert told == [
        "reading logs: 1.2 GB of 4.0 GB, 30.0 MB/s, 1:33 left",
        "reading logs: 2.0 GB of 4.0 GB, 250.0 kB/s, 2:13:20 left",
    ]
