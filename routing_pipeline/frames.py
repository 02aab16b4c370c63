"""Tables of a result as pandas frames.

Belongs here: which tables a model has, and what their columns are called. Does not belong here: which of them is a result's main
one (the result says so, `main_table`).
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from routing_pipeline.errors import UnusableInputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    Frame = pd.DataFrame
    """For annotations where pandas is not loaded."""


def frame_of(result: BaseModel, table: str | None) -> Frame:
    """One table of a result, one row per entry, with the same columns whatever the data hold.

    A field that is a model of its own becomes one column per field of it, `quality` for instance `quality.estimate`, `quality.low`,
    `quality.high` and, where the logs cannot tell, `quality.unidentifiable`. Lists stay lists. A table that the logs cannot tell as
    a whole is one row with the reason in the column `unidentifiable`.

    Args:
        result: The result.
        table: One of `tables_of` its type.

    Raises:
        UnusableInputError: there is no such table, or none was named and the result has no main one.
    """
    kind, found = type(result), tables_of(type(result))
    if table not in found:
        known = f"its tables are {', '.join(found)}" if found else "it has no tables; read its fields"
        said = (
            f"{kind.__name__}: name a table" if table is None else f"{table[:60]}: no table of {kind.__name__}{did_you_mean(table, found)}"
        )
        raise UnusableInputError(f"{said}; {known}")
    import pandas as pd

    value: Any = result
    for name in table.split("."):
        value = getattr(value, name, value)
        if value is None:
            break
    if isinstance(value, BaseModel):
        return pd.DataFrame([_flat(value)])
    rows = [_flat(row) for row in value or ()]
    return pd.DataFrame(rows, columns=_columns(found[table]))


def tables_of(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The type of each table's rows, by the table's name: its field, after the field that it stands in and a dot where it is nested."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in kind.model_fields.items():
        for option in _options(field.annotation):
            if _is_model(option):
                found |= {f"{name}.{nested}": rows for nested, rows in tables_of(option).items()}
            elif get_origin(option) is tuple and _is_model(get_args(option)[0]):
                found[name] = get_args(option)[0]
    return found


def _columns(kind: type[BaseModel], prefix: str = "") -> list[str]:
    columns: dict[str, None] = {}
    for name, field in kind.model_fields.items():
        for option in _options(field.annotation):
            if _is_model(option):
                columns |= dict.fromkeys(_columns(option, f"{prefix}{name}."))
            elif option is not type(None):
                columns[prefix + name] = None
    return list(columns)


def _flat(row: BaseModel, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in type(row).model_fields:
        value = getattr(row, name)
        values |= _flat(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else {prefix + name: value}
    return values


def _options(annotation: Any) -> tuple[Any, ...]:
    """What a field may hold: the members of a union, else the type itself."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    is_union = isinstance(annotation, types.UnionType) or str(get_origin(annotation)) == "typing.Union"
    return tuple(each for member in get_args(annotation) for each in _options(member)) if is_union else (annotation,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
