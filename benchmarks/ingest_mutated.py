"""Ten thousand mutated records: every one is accounted for, nothing crashes, every sound record beside them is read.

The mutations and what must hold are tests/integration/mutated_logs.py's; the test suite runs a few hundred of them.

    python benchmarks/ingest_mutated.py [--records 10000] [--seed 7] [--rounds 10]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration"))
import mutated_logs

from routing_pipeline.storage.home import Home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=10, help="folders that the records are spread over, each with a seed of its own")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    began = time.monotonic()
    mutated = records = ingested = quarantined = duplicates = sound = 0
    for number in range(asked.rounds):
        with tempfile.TemporaryDirectory() as folder:
            logs = Path(folder) / "logs"
            logs.mkdir()
            written = mutated_logs.write(logs, asked.records // asked.rounds, asked.seed + number)
            result = mutated_logs.check(logs, Home(Path(folder) / "home"), written)
        mutated, sound = mutated + written.mutated, sound + len(written.sound)
        records, ingested = records + result.records, ingested + result.ingested
        quarantined, duplicates = quarantined + result.quarantined, duplicates + result.duplicates
    print(
        f"{mutated:,} mutated records and {sound:,} sound ones in {time.monotonic() - began:.0f} s, seeds {asked.seed} to {asked.seed + asked.rounds - 1}"
    )
    print(
        f"{records:,} records = {ingested:,} ingested + {quarantined:,} quarantined + {duplicates:,} duplicates; every sound record was read"
    )


if __name__ == "__main__":
    main()
