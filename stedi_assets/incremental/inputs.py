"""Reads what a table is made of: whole, rolled up, or some dates and earlier rows that matter."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from stedi_assets.incremental.ledger import PartitionKey
from stedi_assets.incremental.membership import users_with_readings
from stedi_assets.incremental.partition_inputs import LakeState
from stedi_assets.incremental.read_rows import ReadRows
from stedi_assets.incremental.rollups import CURRENT_RECORDS, DATES_OF_USERS, rolled_up
from stedi_assets.lakehouse.dates import TimeInterval, any_of, merged, on_days, overlap
from stedi_assets.lakehouse.delta_log import DataFile, TableLog, time_intervals
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.landing.layout import LandedObject
from stedi_assets.landing.listing import list_landing
from stedi_assets.landing.reader import LandedRecords, read_landed
from stedi_assets.scratch import translate_disk_errors
from stedi_assets.tables.rules import consent
from stedi_assets.tables.schemas import TABLES, Table, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_DAY = 86_400_000
# So much of landed objects is copied at most for the embedded engine.
_COPIED_BYTES = 2 << 30
# Of files whose readings span more, the days are read; a predicate has so many intervals at most.
_WIDE, _MAX_INTERVALS = 3 * _DAY, 100


def read_upstream(
    lakehouse: Lakehouse, state: LakeState, table: Table, upstream: str, days: Collection[date]
) -> ReadRows:
    """The rows of an upstream table that some dates of a table are made of.

    Of customer_landing only current records matter, of accelerometer_trusted to customers_curated
    only its users: both come from roll-ups. Of tables of readings the earlier dates' rows are
    read that may repeat the dates' readings, or pair with them. StediError where there is no table.
    """
    log = state.logs[upstream]
    rows = log.rows if log else 0
    if upstream == "customer_landing":
        return rolled_up(lakehouse, CURRENT_RECORDS, state.logs, state.ledgers)
    if table.name == "customers_curated" and upstream == "accelerometer_trusted":
        users = rolled_up(lakehouse, DATES_OF_USERS, state.logs, state.ledgers)
        trusted = _read(lakehouse, state, "customer_trusted")
        scope = lakehouse.store.settings.consent_scope
        frame = users_with_readings(users.frame, consent(trusted, scope)).select("user")
        # (customer_trusted is upstream itself, and so among what the other input was read from.)
        return replace(users, frame=frame, rows=rows)
    if not TABLES[upstream].partitioned:
        frame, whole = _read(lakehouse, state, upstream), {upstream: frozenset([None])}
        return ReadRows(frame, rows, whole)
    return read_with_lookback(lakehouse, state, TABLES[upstream], days, table.rows_from)


def _read(
    lakehouse: Lakehouse,
    state: LakeState,
    name: str,
    predicate: str | None = None,
    files: Sequence[DataFile] | None = None,
) -> "DataFrame":
    """A table at the state's version; no rows where nothing ever landed for it."""
    log = state.logs[name]
    if log is None and state.ledgers[name].entries:
        return lakehouse.read(TABLES[name], predicate)  # says that the table is not there
    if log is None:
        return lakehouse.spark_session.createDataFrame([], spark_schema(TABLES[name].columns))
    return lakehouse.read(TABLES[name], predicate, log, files)


def read_with_lookback(
    lakehouse: Lakehouse,
    state: LakeState,
    table: Table,
    days: Collection[date],
    within: Iterable[str],
) -> ReadRows:
    """A table's rows of some dates, and earlier ones taken at the times of these dates' readings.

    within: the tables whose readings on the dates say at which times.
    """
    intervals = merged(
        interval
        for name in within
        for day in days
        for interval in time_intervals(_files(state.logs[name], day))
    )
    if any(last - first > _WIDE for first, last in intervals):
        # One very old reading would make this read all of history: narrow it down by days.
        closer = merged(
            interval
            for name in within
            for interval in _days_with_readings(lakehouse, state, TABLES[name], days)
        )
        intervals = closer if len(closer) <= _MAX_INTERVALS else intervals
    terms = [
        f"(`{table.time_column}` >= {first} AND `{table.time_column}` <= {last})"
        for first, last in intervals
    ]
    predicate = on_days(days)
    files = [file for day in days for file in _files(state.logs[table.name], day)]
    earlier = _earlier_files(state.logs[table.name], days, intervals)
    earlier_days = {file.ingest_date for file in earlier if file.ingest_date}
    read = frozenset[PartitionKey](earlier_days.union(days))
    if earlier:
        predicate += f" OR ({on_days(earlier_days)} AND {any_of(terms)})"
    frame = _read(lakehouse, state, table.name, predicate, files + earlier)
    rows = sum(file.rows for file in files + earlier)
    return ReadRows(frame, rows, {table.name: read})


def _files(log: TableLog | None, day: date) -> "Iterable[DataFile]":
    return log.by_date.get(day, ()) if log else ()


def _earlier_files(
    log: TableLog | None, days: Collection[date], intervals: Collection[TimeInterval]
) -> list[DataFile]:
    """A table's files of other dates before the newest of some, with readings of some times."""
    newest = max(days, default=None)
    return [
        file
        for day, files in (log.by_date if log and newest else {}).items()
        if day and newest and day < newest and day not in days
        for file in files
        if overlap(time_intervals([file]), intervals)
    ]


def _days_with_readings(
    lakehouse: Lakehouse, state: LakeState, table: Table, days: Collection[date]
) -> list[TimeInterval]:
    """The days (UTC) on which the readings of some ingest dates were taken."""
    from pyspark.sql import functions as F

    files = [file for day in days for file in _files(state.logs[table.name], day)]
    rows = _read(lakehouse, state, table.name, on_days(days), files)
    # Whole numbers throughout: a double does not hold a time that was taken for nanoseconds.
    day = F.expr(f"`{table.time_column}` div {_DAY}").alias("day")
    taken = rows.groupBy(day).agg(F.count("ingest_date").alias("n")).collect()
    days_taken = [row.day for row in taken if row.day is not None]
    # `div` rounds towards zero, so what was taken before 1970 is of the day before its number.
    return [((d - (d <= 0)) * _DAY, (d + (d >= 0)) * _DAY) for d in days_taken]


def list_days(
    lakehouse: Lakehouse, table: Table, days: Collection[date]
) -> tuple[Mapping[date, list[LandedObject]], Mapping[LandedObject, float]]:
    """What landed for a landing table on some dates, and when each object did (epoch seconds)."""
    assert table.entity is not None, "a landing table"
    name = table.entity.name
    listing = list_landing(lakehouse.store, [(min(days), max(days))], [name])
    listings = {day: list(listing.objects.get((name, day), ())) for day in sorted(days)}
    return listings, {o: t.timestamp() for o, t in listing.last_modified.items()}


def read_objects(
    lakehouse: Lakehouse,
    table: Table,
    listings: Mapping[date, list[LandedObject]],
    *,
    exactly: bool = False,
) -> LandedRecords:
    """The records in some dates' landed objects, with their `ingest_date`, as of `read_landed`.

    exactly: by the exact parser alone, where the engine failed on them.
    """
    from pyspark.sql import functions as F

    assert table.entity is not None, "a landing table"
    spark, store = lakehouse.spark_session, lakehouse.store
    # The embedded engine reads each object twice, with three requests each time.
    size = sum(landed.size for objects in listings.values() for landed in objects)
    copied = store.settings.spark == "embedded" and size <= _COPIED_BYTES
    frames, files = [spark.createDataFrame([], spark_schema(table.columns))], list[Path]()
    refused = list[LandedObject]()
    with translate_disk_errors():
        for day, objects in listings.items():
            if objects:
                read = read_landed(spark, store, table.entity, objects, exactly, copied)
                of_day = F.lit(day.isoformat()).cast("date")
                frames.append(read.frame.withColumn("ingest_date", of_day))
                files += read.files
                refused += read.refused
    return LandedRecords(union_all(frames[1:] or frames), files, refused)


def union_all(frames: Sequence["DataFrame"]) -> "DataFrame":
    """All rows of some DataFrames (at least one); in halves, since an engine's stack ends at some
    hundred unions of unions."""
    if len(frames) == 1:
        return frames[0]
    half = len(frames) // 2
    return union_all(frames[:half]).unionAll(union_all(frames[half:]))
