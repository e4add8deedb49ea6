"""How answers are written: tables for people by rich, CSV and JSON for machines."""

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from stedi_assets.errors import StediError

if TYPE_CHECKING:
    import pyarrow
    from rich.console import Console

    from stedi_assets.lakehouse.query import Figures

ROWS_SHOWN = 1_000
_BATCH_ROWS = 10_000


def print_figures(figures: Sequence["Figures"]) -> None:
    """The tables' figures as a table for people."""
    from rich.filesize import decimal

    rows = [
        (
            f.table,
            f"{f.rows:,}",
            str(f.newest_ingest_date or "–"),
            "–" if f.version is None else str(f.version),
            decimal(f.bytes),
            f"{f.malformed:,}",
        )
        for f in figures
    ]
    names = ["table", "rows", "newest date", "version", "size", "malformed"]
    _print_table(_console(), names, [False, *[True] * 5], rows)


def print_answer(answer: "pyarrow.Table", form: str) -> None:
    """A query's answer on standard output: `table`, `csv` or `json` (a list of objects).

    StediError where a form cannot hold it: a date beyond the year 9999, in JSON a name twice.
    """
    names = answer.column_names
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_csv_cell(value) for value in row] for row in _rows(answer))
    elif form == "json":
        for name in names:
            if names.count(name) > 1:
                raise StediError(
                    f"Several columns are called {name}: JSON holds a name once. Give each its own"
                    " (AS), or take --format csv."
                )
        objects = (json.dumps(dict(zip(names, row, strict=True))) for row in _rows(answer))
        separator = "[\n"
        for text in objects:
            sys.stdout.write(f"{separator}{text}")
            separator = ",\n"
        print("\n]" if answer.num_rows else "[]")
    else:
        _print_for_people(answer)


def _rows(answer: "pyarrow.Table") -> Iterator[list[Any]]:
    """The rows as plain values, a batch at a time: a large answer is not held twice."""
    for batch in answer.to_batches(max_chunksize=_BATCH_ROWS):
        columns = [
            _values(name, column)
            for name, column in zip(answer.column_names, batch.columns, strict=True)
        ]
        for row in zip(*columns, strict=True):
            yield [_plain(value) for value in row]


def _values(name: str, column: "pyarrow.Array") -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):  # a struct with two fields of one name is a ValueError
        raise StediError(
            f"The column {name} holds what cannot be shown, such as a date beyond the year 9999:"
            f" ask for it as text, CAST({name} AS STRING)."
        ) from None
    return values


def _plain(value: Any) -> Any:
    """A value as JSON; a non-finite number becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else value


def cell(value: Any) -> str:
    """A value on a terminal, on one line; what would move the cursor is written as an escape."""
    text = "null" if value is None else str(_csv_cell(value))
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _print_for_people(answer: "pyarrow.Table") -> None:
    """A table where it fits the terminal's width, else a block of lines for each row."""
    from pyarrow import types

    rows = [[cell(value) for value in row] for row in islice(_rows(answer), ROWS_SHOWN)]
    names, console = answer.column_names, _console()
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    if sum(widths) + 2 * len(widths) > console.width:
        _print_blocks(console, names, rows)
    else:
        numeric = [types.is_integer(t) or types.is_floating(t) for t in answer.schema.types]
        _print_table(console, names, numeric, rows)
    left_out = answer.num_rows - len(rows)
    console.print(f"({answer.num_rows:,} row{'' if answer.num_rows == 1 else 's'})")
    if left_out:
        console.print(f"{left_out:,} more are not shown: add LIMIT, or take --format csv or json.")


def _console() -> "Console":
    """Standard output; not wrapped where it is not a terminal."""
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 10_000
    return console


def _print_table(
    console: "Console",
    names: Sequence[str],
    numeric: Sequence[bool],
    rows: Sequence[Sequence[str]],
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name, is_number in zip(names, numeric, strict=True):
        table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    console.print(table)


def _print_blocks(console: "Console", names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        console.print(", ".join(names))
    width = max(map(len, names))
    for number, row in enumerate(rows, 1):
        console.print(f"row {number}", style="bold")
        for name, value in zip(names, row, strict=True):
            console.print(f"  {name.ljust(width)}  {value}")
