"""`stedi query` on the engine that STEDI_SPARK names, and the tables' figures from their logs."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.read_only_sql import parse_query
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.spark.errors import redacted_message
from stedi_assets.tables.schemas import TABLES, Table, spark_schema

if TYPE_CHECKING:
    import pyarrow

_SHOW_TABLES = re.compile(r"\s*show\s+tables\s*;?\s*", re.IGNORECASE)
_DESCRIBE = re.compile(r"\s*(?:describe|desc)\s+(?:table\s+)?`?(\w+)`?\s*;?\s*", re.IGNORECASE)


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
    lakehouse.refresh(TABLES.values())  # at the same time, where `log` reads one after another
    return [_figures(lakehouse, table) for table in TABLES.values()]


def _figures(lakehouse: Lakehouse, table: Table) -> Figures:
    log = lakehouse.log(table)
    if log is None:
        return Figures(table.name, 0, None, None, 0, 0)
    return Figures(
        table.name,
        rows=log.rows,
        newest_ingest_date=max((f.newest for f in log.files if f.rows and f.newest), default=None),
        version=log.version,
        bytes=log.bytes,
        malformed=log.malformed,
    )


def describe(sql: str) -> "pyarrow.Table | None":
    """The answer to `SHOW TABLES` or `DESCRIBE table`, from the contract; None: another statement.

    Raises:
        StediError: there is no such table.
    """
    import pyarrow

    if _SHOW_TABLES.fullmatch(sql):
        rows = [{"table": t.name, "zone": t.zone, "row": t.row} for t in TABLES.values()]
        return pyarrow.Table.from_pylist(rows)
    match = _DESCRIBE.fullmatch(sql)
    if match is None:
        return None
    table = TABLES.get(match[1].lower())
    if table is None:
        raise StediError(f"There is no table {match[1]}; there are {', '.join(TABLES)}.")
    return pyarrow.Table.from_pylist(
        [{"column": c.name, "type": c.type, "description": c.description} for c in table.columns]
    )


def run_query(lakehouse: Lakehouse, sql: str) -> "pyarrow.Table":
    """The rows of a query over the eight tables.

    Only the tables that it names are opened; one that was never written has no rows.

    Args:
        lakehouse: the tables; its engine is not started where the SQL is refused.
        sql: one query in Spark's SQL, `SHOW TABLES` or `DESCRIBE table`.

    Raises:
        StediError: it is not such a query (see `read_only_sql`), a table that it names is damaged,
            or the engine cannot run it.
    """
    answer = describe(sql)
    if answer is not None:
        return answer
    query = parse_query(sql)
    try:
        _make_views(lakehouse, query.tables)
        return lakehouse.spark_session.sql(query.text).toArrow()
    except StediError:
        raise
    except Exception as error:  # the engines' own error classes have nothing in common
        # It may quote a value, which is the table's: of that only what was typed is shown.
        raise StediError(f"The query does not run: {redacted_message(error, sql)}") from None


def _make_views(lakehouse: Lakehouse, names: Collection[str]) -> None:
    for table in (TABLES[name] for name in names):
        lakehouse.assert_not_lost(table)
        if lakehouse.log(table) is None:
            frame = lakehouse.spark_session.createDataFrame([], spark_schema(table.columns))
        else:
            frame = lakehouse.read(table)
        frame.select(*table.column_names).createOrReplaceTempView(table.name)
