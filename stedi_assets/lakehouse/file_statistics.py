"""The statistics of a data file in the Delta log: rows, and each column's bounds and nulls.

Log entries outlive the rows, so of a column that says who a person is they hold only that its
values are texts. (To leave such bounds out would be allowed too, but delta-rs then finds no row
where somebody filters by the column.)
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from stedi_assets.tables.schemas import Column, Table

# Every text lies between these.
_FIRST_TEXT, _LAST_TEXT = "", "\U0010ffff"
Bounds = tuple[Any, Any] | None  # least and greatest value; None where there is none


def file_statistics(
    table: Table, rows: int, columns: Iterable[tuple[str, Bounds, int]]
) -> dict[str, Any]:
    """As Delta's protocol wants them: `numRecords`, `minValues`, `maxValues`, `nullCount`.

    columns: of those in the file, the name, the bounds, and how many values are null.
    """
    by_name = {column.name: column for column in table.columns}
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name, bounds, count in columns:
        nulls[name] = count
        shown = _shown(by_name[name], bounds) if count < rows else None
        if shown is not None:
            least[name], most[name] = shown
    return {"numRecords": rows, "minValues": least, "maxValues": most, "nullCount": nulls}


def _shown(column: Column, bounds: Bounds) -> Bounds:
    if column.type == "string":
        return _FIRST_TEXT, _LAST_TEXT
    if bounds is None:
        return None
    least, most = bounds
    return (_plain(least), _plain(most))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def statistics_of_footer(table: Table, footer: Any) -> dict[str, Any]:
    """The statistics of a parquet file, from its footer (`pyarrow.parquet.FileMetaData`)."""
    bounds: dict[str, Bounds] = {}
    nulls: dict[str, int] = {}
    for group in (footer.row_group(n) for n in range(footer.num_row_groups)):
        for column in (group.column(n) for n in range(group.num_columns)):
            name, statistics = column.path_in_schema, column.statistics
            nulls[name] = nulls.get(name, 0) + (
                statistics.null_count if statistics is not None else 0
            )
            if statistics is not None and statistics.has_min_max:
                least, most = bounds.get(name) or (statistics.min, statistics.max)
                bounds[name] = min(least, statistics.min), max(most, statistics.max)
    columns = ((name, bounds.get(name), count) for name, count in nulls.items())
    return file_statistics(table, footer.num_rows, columns)
