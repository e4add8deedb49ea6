"""`stedi tables` and `stedi query`: what is in the lake, read-only."""

import csv
import json
import re
import sys
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.tables.schemas import TABLES, Table, spark_schema

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Figures:
    """A table's figures, from its Delta log; None where there is no table or no date."""

    table: str
    rows: int
    newest_ingest_date: date | None
    version: int | None
    bytes: int
    malformed: int

    def as_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        newest = self.newest_ingest_date
        return {**self.__dict__, "newest_ingest_date": newest.isoformat() if newest else None}


def table_figures(lakehouse: Lakehouse) -> list[Figures]:
    """The figures of the eight tables, in the order of the zones."""
    return [_figures(lakehouse, table) for table in TABLES.values()]


def _figures(lakehouse: Lakehouse, table: Table) -> Figures:
    log = lakehouse.log(table)
    if log is None:
        return Figures(table.name, 0, None, None, 0, 0)
    return Figures(
        table.name,
        rows=sum(f.rows for f in log.files),
        newest_ingest_date=max((f.newest for f in log.files if f.rows and f.newest), default=None),
        version=log.version,
        bytes=sum(f.bytes for f in log.files),
        malformed=sum(f.malformed for f in log.files),
    )


def print_tables(figures: list[Figures]) -> None:
    """The figures as a table for people."""
    rows = [("table", "rows", "newest ingest date", "version", "size", "malformed")]
    for f in figures:
        version = "–" if f.version is None else str(f.version)
        newest = str(f.newest_ingest_date or "–")
        size = f"{f.bytes / 1e6:,.1f} MB"
        rows.append((f.table, f"{f.rows:,}", newest, version, size, f"{f.malformed:,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells))


def run_query(lakehouse: Lakehouse, sql: str) -> "pandas.DataFrame":
    """The answer of a SQL query over the eight tables; StediError where it is not one."""
    if not _is_query(sql):
        raise StediError("Only queries are run here (SELECT …): the tables are read-only.")
    spark = lakehouse.spark_session
    for table in TABLES.values():
        if lakehouse.log(table) is None:
            frame = spark.createDataFrame([], spark_schema(table.columns))
        else:
            frame = spark.read.format("delta").load(lakehouse.store.settings.uri(table.path))
        frame.select(*table.column_names).createOrReplaceTempView(table.name)
    try:
        return spark.sql(sql).toPandas()
    except Exception as error:
        raise StediError(f"The query does not run: {str(error).strip().splitlines()[0]}") from None


def _is_query(sql: str) -> bool:
    """Whether it only reads: Apache Spark takes an INSERT after a WITH as well."""
    unquoted = re.sub(r"'[^']*'", "''", sql)
    starts = re.match(r"[\s(]*(select|with|values|table|describe|show)\b", unquoted, re.IGNORECASE)
    return bool(starts) and not re.search(r"\binsert\s+(into|overwrite)\b", unquoted, re.IGNORECASE)


def print_frame(frame: "pandas.DataFrame", form: str) -> None:
    """An answer on standard output, as a table, csv or json (a list of objects)."""
    rows = [[_plain(value) for value in row] for row in frame.itertuples(index=False)]
    names = list(frame.columns)
    if form == "json":
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerows([names, *rows])
    else:
        print(frame.to_string(index=False))


def _plain(value: Any) -> Any:
    import pandas

    if isinstance(value, list | dict) or value is None:
        return value
    if pandas.isna(value):
        return None
    if hasattr(value, "item"):
        return value.item()
    return value if isinstance(value, int | float | str | bool) else str(value)
