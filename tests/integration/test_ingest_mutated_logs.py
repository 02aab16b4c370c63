"""Logs damaged at random: every record is accounted for, and no sound record suffers for its neighbour."""

from __future__ import annotations

from pathlib import Path

import mutated_logs
import pytest

from routing_pipeline.storage.home import Home


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_mutated_record_is_accounted_for_and_every_sound_one_is_read(seed: int, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    written = mutated_logs.write(tmp_path / "logs", mutated=400, seed=seed)
    result = mutated_logs.check(tmp_path / "logs", Home(tmp_path / "home"), written)
    assert result.quarantined > 100
