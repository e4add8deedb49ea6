"""Roll-ups of ingest dates, so that the cost of a new day does not grow with history.

A roll-up is a Delta table under `_stedi/rollups/`: what a landing table's rows come down to. It is
brought up to date when it is read. One that cannot replace a date by itself leaves the newest date
out, which is written often, and is read together with that date's rows. Its manifest says, date by
date, from which data files it was made, and which files with which etags that made: everything else
is rebuilt, so a lost or foreign roll-up is never used. Where a source's files are not as they were
written, the roll-up that was made of them has no manifest.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from stedi_assets.incremental.ledger import Ledger, files_of, not_as_built
from stedi_assets.incremental.read_rows import ReadRows
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.client import GoneError, PreconditionError
from stedi_assets.lakehouse.dates import on_days
from stedi_assets.lakehouse.delta_log import TableLog
from stedi_assets.lakehouse.tables import Lakehouse, Logs
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.tables.rules import (
    current_records,
    normalized_email,
    normalized_serial_number,
    well_formed,
)
from stedi_assets.tables.schemas import INGEST_DATE, TABLES, Column, Table, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame

ROLLUPS_FOLDER = "_stedi/rollups/"
_MONTH = Column("month", "date", "First day of the ingest date's month.")


@dataclass(frozen=True)
class Rollup:
    """What is kept of a landing table's older rows.

    reduce: from rows of the source to rows of the roll-up, so that reducing parts and then their
    union gives what reducing the whole gives. By month, every ingest date is reduced by itself.
    """

    table: Table
    source: Table
    reduce: "Callable[[DataFrame], DataFrame]"

    @property
    def by_month(self) -> bool:
        """Whether a month can be replaced by itself."""
        return self.table.partition_column is not None

    @property
    def manifest(self) -> str:
        """The path of what says from which files the roll-up was made."""
        return f"{self.table.path}.json"


def _rollup_table(name: str, row: str, columns: tuple[Column, ...], by_month: bool) -> Table:
    zone = ROLLUPS_FOLDER.rstrip("/")
    return Table(name, zone, row, columns, partition_column=_MONTH.name if by_month else None)


def _current_records(customer_landing: "DataFrame") -> "DataFrame":
    from pyspark.sql import functions as F

    current = current_records(customer_landing)
    return current.withColumn("_corrupt_record", F.lit(None).cast("string")).select(
        *TABLES["customer_landing"].column_names
    )


def _dates_of_users(accelerometer_landing: "DataFrame") -> "DataFrame":
    from pyspark.sql import functions as F

    return (
        well_formed(accelerometer_landing)
        .groupBy(normalized_email("user").alias("user"), "ingest_date")
        .agg(F.max("timestamp").alias("last_time"))
        .select("user", "last_time", "ingest_date")
        .withColumn(_MONTH.name, _first_of_month("ingest_date"))
    )


def _first_of_month(day: str) -> "SparkColumn":
    """The first day of a date's month; Sail's `trunc` fails before 1678 and after 2261."""
    from pyspark.sql import functions as F

    return F.make_date(F.year(day), F.month(day), F.lit(1))


def _dates_of_devices(step_trainer_landing: "DataFrame") -> "DataFrame":
    return (
        well_formed(step_trainer_landing)
        .select(normalized_serial_number().alias("serialNumber"), "ingest_date")
        .distinct()
        .withColumn(_MONTH.name, _first_of_month("ingest_date"))
    )


CURRENT_RECORDS = Rollup(
    _rollup_table(
        "current_records",
        "The current record of a customer, consenting or not, shaped as a landed one.",
        TABLES["customer_landing"].columns,
        by_month=False,
    ),
    TABLES["customer_landing"],
    _current_records,
)
DATES_OF_USERS = Rollup(
    _rollup_table(
        "dates_of_users",
        "A user with phone readings that landed on the day.",
        (
            Column("user", "string", "Email, normalized.", personal=True),
            Column("last_time", "bigint", "Their last reading there, ms since the epoch."),
            INGEST_DATE,
            _MONTH,
        ),
        by_month=True,
    ),
    TABLES["accelerometer_landing"],
    _dates_of_users,
)
DATES_OF_DEVICES = Rollup(
    _rollup_table(
        "dates_of_devices",
        "A device with readings that landed on the day.",
        (
            Column("serialNumber", "string", "Number of the device, trimmed.", personal=True),
            INGEST_DATE,
            _MONTH,
        ),
        by_month=True,
    ),
    TABLES["step_trainer_landing"],
    _dates_of_devices,
)
ROLLUPS = {r.table.name: r for r in (CURRENT_RECORDS, DATES_OF_USERS, DATES_OF_DEVICES)}
ROLLUP_TABLES = tuple(rollup.table for rollup in ROLLUPS.values())


def rolled_up(
    lakehouse: Lakehouse, rollup: Rollup, logs: Logs, ledgers: Mapping[str, Ledger]
) -> ReadRows:
    """The whole source table at a version of its log, reduced; no rows where there is no table.

    logs, ledgers: by table; by the source's it is seen whether its files are as they were written.
    The roll-up is written where it is not up to date. StediError where the engine or S3 fails.
    """
    log, ledger = logs[rollup.source.name], ledgers[rollup.source.name]
    if log is None or not log.files:
        spark = lakehouse.spark_session
        return ReadRows(spark.createDataFrame([], spark_schema(rollup.table.columns)), 0)
    if rollup.by_month:
        older, sound = _up_to_date(lakehouse, rollup, log, ledger, set(log.by_date))
        return ReadRows(older, log.rows, sound=sound)
    newest = max((day for day in log.by_date if day), default=None)
    if len(log.by_date) < 2 or newest is None:
        every = {rollup.source.name: frozenset([None])}
        return ReadRows(rollup.reduce(lakehouse.read(rollup.source, log=log)), log.rows, every)
    older, sound = _up_to_date(lakehouse, rollup, log, ledger, set(log.by_date) - {newest})
    rest = lakehouse.read(rollup.source, on_days([newest]), log, log.by_date[newest])
    frame = rollup.reduce(older.unionAll(rollup.reduce(rest)))
    return ReadRows(frame, log.rows, {rollup.source.name: frozenset([newest])}, sound)


def refresh_rollups(lakehouse: Lakehouse, logs: Logs, ledgers: Mapping[str, Ledger]) -> None:
    """Remove from every existing roll-up what its source no longer holds; by table."""
    for rollup in ROLLUPS.values():
        log = logs[rollup.source.name]
        if lakehouse.log(rollup.table) is None:
            continue
        read = log is not None and len(log.by_date) >= (1 if rollup.by_month else 2)
        if not read:
            lakehouse.store.delete_below(f"{rollup.table.path}/")
            lakehouse.store.delete([rollup.manifest])
            lakehouse.refresh([rollup.table])
        else:
            rolled_up(lakehouse, rollup, logs, ledgers)


def _up_to_date(
    lakehouse: Lakehouse,
    rollup: Rollup,
    log: TableLog,
    ledger: Ledger,
    days: Collection[date | None],
) -> tuple["DataFrame", bool]:
    """The roll-up of some dates, after rebuilding those that differ from the source's.

    Also whether the files that it was made of were as they were written.
    """
    sound = True
    wanted = {str(day): files_of(log, day) for day in days if day}
    held = _read_manifest(lakehouse, rollup)
    if held.dates != wanted:
        with write_lock(lakehouse.store, rollup.table.name):
            lakehouse.refresh([rollup.table])
            held = _read_manifest(lakehouse, rollup)  # another may have been first
            if held.dates != wanted:
                added, read = _update(lakehouse, rollup, log, wanted, held.dates)
                listed = lakehouse.files_as_read(rollup.source, read)
                sound = not not_as_built(log, ledger, listed, read)
                if sound:
                    made = replace(held, dates=wanted, files={**held.files, **added})
                    _write_manifest(lakehouse, rollup, made)
                else:  # of files that somebody wrote over: with these it is made anew
                    lakehouse.store.delete([rollup.manifest])
    return lakehouse.read(rollup.table), sound


@dataclass(frozen=True)
class _Manifest:
    """What a roll-up was made from, and what that made; empty where it is not known.

    dates: the identity of the source's files, by ingest date; files: the etags of the roll-up's
    data files by their paths; etag: of the manifest itself, None where there is none.
    """

    dates: dict[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None


def _read_manifest(lakehouse: Lakehouse, rollup: Rollup) -> _Manifest:
    existing = lakehouse.store.get(rollup.manifest)
    if existing is None:
        return _Manifest()
    unknown = _Manifest(etag=existing[1])
    try:
        document: dict[str, Any] = parse_json(existing[0])
        log = lakehouse.log(rollup.table)
        if log is None or document["table_id"] != log.table_id:
            return unknown
        listed = lakehouse.data_files(rollup.table)
        if document["files"] != {f.path: listed[f.path].etag for f in log.files}:
            return unknown
        dates = {str(date.fromisoformat(day)): of for day, of in document["dates"].items()}
        return _Manifest(dates, document["files"], existing[1])
    except (ValueError, TypeError, KeyError, AttributeError):
        return unknown


def _write_manifest(lakehouse: Lakehouse, rollup: Rollup, made: _Manifest) -> None:
    """Say what the roll-up holds; files: also of such as have left it since."""
    log = lakehouse.log(rollup.table)
    assert log is not None, "written just now"
    files = {f.path: made.files.get(f.path, "") for f in log.files}
    document = {"table_id": log.table_id, "files": files, "dates": made.dates}
    condition = {"IfMatch": made.etag} if made.etag else {"IfNoneMatch": "*"}
    try:
        lakehouse.store.put(rollup.manifest, json.dumps(document).encode(), **condition)
    except (PreconditionError, GoneError):  # concurrent writes: neither counts, it is rebuilt
        lakehouse.store.delete([rollup.manifest])


def _update(
    lakehouse: Lakehouse,
    rollup: Rollup,
    log: TableLog,
    wanted: dict[str, str],
    held: dict[str, str],
) -> tuple[dict[str, str], set[date]]:
    """Make the changed dates' part of the roll-up anew, or all of it where that is not enough.

    The etags of the data files that were added, by their paths, and the source's dates that were
    read.
    """
    changed = {day for day in wanted.keys() | held.keys() if wanted.get(day) != held.get(day)}
    rows_read, days = 0, set[date]()

    def reduced(names: Collection[str]) -> "DataFrame":
        nonlocal rows_read
        days.update(date.fromisoformat(name) for name in names)
        files = [file for day in days for file in log.by_date[day]]
        rows_read += sum(file.rows for file in files)
        return rollup.reduce(lakehouse.read(rollup.source, on_days(days), log, files))

    if rollup.by_month and held:
        months = {date.fromisoformat(f"{day[:7]}-01") for day in changed}
        kept = [d for d in held.keys() - changed if date.fromisoformat(f"{d[:7]}-01") in months]
        made = wanted.keys() & changed
        rows = reduced(made)
        if kept:  # Sail does not plan a union with what it sees to be empty
            old = lakehouse.read(rollup.table, on_days([date.fromisoformat(d) for d in kept]))
            rows = rows.unionAll(old) if made else old
        rows_read += _rows(lakehouse, rollup)
        return lakehouse.replace(rollup.table, rows, months, _MONTH.name, rows_read), days
    if not rollup.by_month and held and not held.keys() & changed:
        both = rollup.reduce(lakehouse.read(rollup.table).unionAll(reduced(changed)))
        rows_read += _rows(lakehouse, rollup)
        return lakehouse.replace(rollup.table, both, None, rows=rows_read), days
    made_anew = reduced(wanted)
    return lakehouse.replace(rollup.table, made_anew, None, rows=rows_read), days


def _rows(lakehouse: Lakehouse, rollup: Rollup) -> int:
    log = lakehouse.log(rollup.table)
    return log.rows if log else 0
