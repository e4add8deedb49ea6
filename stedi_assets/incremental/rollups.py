"""What older ingest dates come down to, so that a day costs after a year what it cost at first.

A summary is a Delta table of the pipeline's own, under `_stedi/summaries/`, made of a table's rows
from before its newest ingest date. It is brought up to date when it is read, and read together
with the newest date's rows. Beside it stands which files it was made of, date by date, and which
files it became: a date that was written again, a crash and another writer are seen by that, and at
worst the summary is made anew.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from stedi_assets.incremental.ledger import fingerprint
from stedi_assets.tables.rules import current_records, normalized_email, normalized_serial_number
from stedi_assets.tables.schemas import INGEST_DATE, TABLES, Column, Table

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame

    from stedi_assets.defs.io_managers import DeltaIOManager

SUMMARIES_FOLDER = "_stedi/summaries/"
_ZONE = SUMMARIES_FOLDER.rstrip("/")
_MONTH = Column("month", "date", "First day of the ingest date's month.")


@dataclass(frozen=True)
class Summary:
    """What is kept of a table's older rows.

    reduce: from rows of the source to rows of the summary; it gives the same for a whole as for
    a part's summary and the rest. Where the table is by month, every date is reduced by itself.
    """

    table: Table
    source: Table
    reduce: "Callable[[DataFrame], DataFrame]"

    @property
    def by_month(self) -> bool:
        return self.table.partition_column is not None

    @property
    def made_of(self) -> str:
        """The path of what says what the summary was made of."""
        return f"{self.table.path}.json"


def _current_records(customer_landing: "DataFrame") -> "DataFrame":
    from pyspark.sql import functions as F

    current = current_records(customer_landing)
    return current.withColumn("_corrupt_record", F.lit(None).cast("string")).select(
        *TABLES["customer_landing"].column_names
    )


CURRENT_RECORDS = Summary(
    Table(
        "current_records",
        _ZONE,
        "The current record of a customer, consenting or not, shaped as a landed one.",
        TABLES["customer_landing"].columns,
        partition_column=None,
    ),
    TABLES["customer_landing"],
    _current_records,
)


def _dates_of(source: str, column: str, normalized: "Callable[[str], SparkColumn]") -> Summary:
    """On which ingest dates a table has rows of whom (or of which device)."""
    table = Table(
        f"{source}_dates",
        _ZONE,
        f"A {column} with rows in {source} on the day.",
        (Column(column, "string", f"As in {source}, normalized.", True), INGEST_DATE, _MONTH),
        partition_column=_MONTH.name,
    )

    def reduce(rows: "DataFrame") -> "DataFrame":
        from pyspark.sql import functions as F

        return (
            rows.where(F.col(column).isNotNull())
            .select(normalized(column).alias(column), "ingest_date")
            .distinct()
            .withColumn(_MONTH.name, F.trunc("ingest_date", "month"))
        )

    return Summary(table, TABLES[source], reduce)


LANDED_DATES_OF_USERS = _dates_of("accelerometer_landing", "user", normalized_email)
LANDED_DATES_OF_DEVICES = _dates_of(
    "step_trainer_landing", "serialNumber", normalized_serial_number
)
TRUSTED_DATES_OF_USERS = _dates_of("accelerometer_trusted", "user", normalized_email)
SUMMARIES = {
    summary.table.name: summary
    for summary in (
        CURRENT_RECORDS,
        LANDED_DATES_OF_USERS,
        LANDED_DATES_OF_DEVICES,
        TRUSTED_DATES_OF_USERS,
    )
}


def summarized(io: "DeltaIOManager", summary: Summary) -> "DataFrame":
    """The whole source table, reduced; StediError where it was never written."""
    newest = _bring_up_to_date(io, summary)
    if newest is None:
        return summary.reduce(io.read(summary.source))
    rest = summary.reduce(io.read(summary.source, f"ingest_date >= DATE'{newest}'"))
    whole = io.read(summary.table).unionAll(rest)
    return whole if summary.by_month else summary.reduce(whole)


def bring_summaries_up_to_date(io: "DeltaIOManager") -> None:
    """Take out of every summary that is there what is no longer in its source."""
    io.lake.look_again()
    for summary in SUMMARIES.values():
        if io.lake.log(summary.table) and io.lake.log(summary.source):
            _bring_up_to_date(io, summary)


def _bring_up_to_date(io: "DeltaIOManager", summary: Summary) -> date | None:
    """Make the summary hold all but the newest date, which is given back; None: no older ones."""
    log = io.lake.log(summary.source)
    files: dict[date, list[str]] = {}
    for file in log.files if log else ():
        if file.ingest_date:
            files.setdefault(file.ingest_date, []).append(file.path)
    newest = max(files, default=None)
    older = {str(day): fingerprint(paths) for day, paths in files.items() if day != newest}
    held = _held(io, summary)
    changed = {day for day in older.keys() | held.keys() if older.get(day) != held.get(day)}
    if changed:
        _write(io, summary, changed, older, held)
    return newest if older else None


def _held(io: "DeltaIOManager", summary: Summary) -> dict[str, str]:
    """The dates that the summary holds, each with its source files' fingerprint; {}: who knows."""
    said = io.lake.get_json(summary.made_of)
    if said is None or said["files"] != _files(io, summary):
        return {}
    dates: dict[str, str] = said["dates"]
    return dates


def _files(io: "DeltaIOManager", summary: Summary) -> str | None:
    log = io.lake.log(summary.table)
    return None if log is None else fingerprint(file.path for file in log.files)


def _write(
    io: "DeltaIOManager",
    summary: Summary,
    changed: Collection[str],
    older: dict[str, str],
    held: dict[str, str],
) -> None:
    """Make the changed dates' part of the summary anew, or all of it where that is not enough."""
    if summary.by_month and held:
        months = {day[:7] for day in changed}
        kept = {day for day in held.keys() - changed if day[:7] in months}
        made = older.keys() & changed
        rows = summary.reduce(io.read(summary.source, on_days(made)))
        if kept:  # Sail does not plan a union with what it sees to be empty
            old = io.read(summary.table, on_days(kept))
            rows = rows.unionAll(old) if made else old
        token = io.replace(
            summary.table, rows, on_days({f"{month}-01" for month in months}, "month")
        )
    elif held and not held.keys() & changed:
        new = summary.reduce(io.read(summary.source, on_days(changed)))
        token = io.replace(summary.table, summary.reduce(io.read(summary.table).unionAll(new)))
    else:
        rows = summary.reduce(io.read(summary.source, on_days(older.keys())))
        token = io.replace(summary.table, rows)
    if io.lake.is_newest(summary.table, token):  # else another wrote over it: made anew next time
        io.lake.put_json(summary.made_of, {"files": _files(io, summary), "dates": older})


def on_days(days: Collection[str] | Collection[date], column: str = "ingest_date") -> str:
    """SQL for the rows of some days."""
    listed = ", ".join(sorted(f"DATE'{day}'" for day in days))
    return f"{column} IN ({listed})" if days else "false"


def dates_of(summary_rows: "DataFrame", keys: "DataFrame") -> set[date]:
    """The ingest dates on which any of some keys (a DataFrame of one column) has rows."""
    found = summary_rows.join(keys, keys.columns[0], "left_semi").select("ingest_date").distinct()
    return {row[0] for row in found.collect()}
