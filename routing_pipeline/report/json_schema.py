"""The JSON Schemas of report.json and rules.json, generated from the models that write them.

Belongs here: generating and writing them; `python -m routing_pipeline.report.json_schema` does so. Does not belong here:
the models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from routing_pipeline.estimates import Result
from routing_pipeline.report.model import Report
from routing_pipeline.rules.model import RuleSet
from routing_pipeline.storage.files import write_whole

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMAS: dict[str, type[Result]] = {"report.schema.json": Report, "rules.schema.json": RuleSet}


def schema_of(model: type[Result]) -> dict[str, Any]:
    """The schema of a published model; fields with a default may be missing."""
    return {"$schema": DIALECT, **model.model_json_schema(mode="validation")}


def schema_text(model: type[Result]) -> str:
    """The schema as the file holds it."""
    return json.dumps(schema_of(model), indent=1, ensure_ascii=False) + "\n"


def write_schemas(folder: Path = FOLDER) -> tuple[Path, ...]:
    """Write both files."""
    for name, model in SCHEMAS.items():
        write_whole(folder / name, schema_text(model).encode())
    return tuple(folder / name for name in SCHEMAS)


if __name__ == "__main__":
    for path in write_schemas():
        print(path)  # noqa: T201
