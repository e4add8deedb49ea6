"""Metadata of a materialization: counts, sizes, a picture and a masked preview.

All from the Delta log and the first rows of one file: nothing is computed a second time. A number
has one name wherever it stands, and its unit in the name; what is of the written date begins with
`partition`, what is of the whole table with `table`, so that each can be plotted over time.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from stedi_assets.defs import charts
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.lakehouse.delta_log import DataFile, TableLog
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.spark.errors import redacted_message
from stedi_assets.tables.plausible_times import TIME_COLUMNS
from stedi_assets.tables.schemas import TABLES, Table

PREVIEW_ROWS = 3
MASK = "•••"
# Rows of one file in which the picture of the training set looks for a subject's session.
_SESSION_ROWS = 5_000
_MOST_POINTS = 400
_PAUSE = 1_800_000  # ms
# Subjects are counted where that reads at most so many files.
_FEW_FILES = 100
_LONGEST = 24
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = {name for names in TIME_COLUMNS.values() for name in names}


def materialization_metadata(
    pipeline: Pipeline,
    table: Table,
    log: TableLog,
    day: date | None,
    *,
    with_preview: bool = True,
) -> dict[str, Any]:
    """The metadata of a table's partition (None: of the whole table), as Dagster's UI knows it.

    with_preview: with picture and preview, which read one file; for the newest date of a range.
    """
    files = log.of(day)
    shown: dict[str, Any] = {}
    if with_preview:
        try:
            shown = _illustrated(pipeline, table, log, files)
        except Exception as error:  # the table is written: no run fails for what is shown of it
            shown = {"preview": dg.MetadataValue.md(f"Not shown: {redacted_message(error)}")}
    metadata = shown | _numbers(table, log, files, day)
    metadata["dagster/uri"] = pipeline.lakehouse.store.settings.uri(table.path)
    return metadata


def rows_of(log: TableLog, days: Collection[date]) -> int:
    """How many rows a table's dates have; without dates, the table."""
    return sum(file.rows for day in days or (None,) for file in log.of(day))


def rate(log: TableLog, days: Collection[date], seconds: float) -> dict[str, int | float]:
    """How long a run took to compute and write a table's dates (none: all of it), and how fast."""
    rows = rows_of(log, days)
    return {"run_seconds": round(seconds, 3), "run_rows_per_second": round(rows / seconds)}


def _illustrated(
    pipeline: Pipeline, table: Table, log: TableLog, files: Sequence[DataFile]
) -> dict[str, Any]:
    """Picture, preview and customer counts, from the first rows of one file and what is counted."""
    # Of a date without rows, the table's newest: its page is not to be empty on a quiet day.
    newest = sorted(log.files, key=lambda file: file.ingest_date or date.min, reverse=True)
    rows = first_rows(pipeline.lakehouse.store, table, [*files, *newest])
    shown: dict[str, Any] = {"preview": dg.MetadataValue.md(preview(table, rows[:PREVIEW_ROWS]))}
    customers = _customers(pipeline) if table.name == "customers_curated" else {}
    if picture := _picture(table, log, rows, customers):
        shown = {"picture": dg.MetadataValue.md(picture), **shown}
    return shown | {f"customers_{name}": count for name, count in customers.items()}


def _numbers(
    table: Table, log: TableLog, files: Sequence[DataFile], day: date | None
) -> dict[str, int | float]:
    """Counts and sizes, of the date and of the table."""
    numbers: dict[str, int | float] = {
        "dagster/row_count": log.rows,
        "table_size_mb": megabytes([log.bytes]),
        "table_files": len(log.files),
        "delta_version": log.version,
    }
    if day is not None:
        numbers["dagster/partition_row_count"] = sum(f.rows for f in files)
        numbers["partition_size_mb"] = megabytes(f.bytes for f in files)
        numbers["partition_files"] = len(files)
    if table.zone == "landing":
        rows, malformed = sum(f.rows for f in files), sum(f.malformed for f in files)
        numbers["partition_malformed"] = malformed
        numbers["partition_malformed_percent"] = round(100 * malformed / rows, 3) if rows else 0.0
        numbers["table_malformed"] = log.malformed
    return numbers


def megabytes(sizes: Iterable[int]) -> float:
    """The sum of some sizes in bytes, as MB (10**6 bytes)."""
    return round(sum(sizes) / 1_000_000, 3)


def _customers(pipeline: Pipeline) -> dict[str, int]:
    """How many customers landed, consent, have phone readings, and have pairs.

    Stages that nobody knows without reading much are left out.
    """
    logs = {name: pipeline.lakehouse.log(TABLES[name]) for name in TABLES}
    trusted, curated = logs["customer_trusted"], logs["customers_curated"]
    counts = {}
    if customers := pipeline.state().membership.of("customer_landing", None)[0]:
        counts["landed"] = customers
    counts["consenting"] = trusted.rows if trusted else 0
    counts["with_readings"] = curated.rows if curated else 0
    pairs = logs["machine_learning_curated"]
    if pairs and 0 < len(pairs.files) <= _FEW_FILES:
        rows = pipeline.lakehouse.read(TABLES["machine_learning_curated"])
        counts["with_pairs"] = rows.select("subject_id").distinct().count()
    return counts


# ---------------------------------------------------------------------- pictures


def _picture(
    table: Table, log: TableLog, rows: list[dict[str, Any]], customers: Mapping[str, int]
) -> str | None:
    """The table's picture; None where it has none or nothing to draw."""
    if table.zone == "landing":
        malformed = {
            day: sum(f.malformed for f in files) for day, files in log.by_date.items() if day
        }
        return charts.records_by_date(log.rows_by_date(), malformed)
    if table.name == "customers_curated":
        return charts.funnel({name.replace("_", " "): n for name, n in customers.items()})
    if table.name == "machine_learning_curated" and rows:
        return charts.training_pairs(**session(rows), pairs=log.rows_by_date())
    return None


def session(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The longest session among some rows of the training set, in the order of its readings.

    A session is one subject's readings without a pause of `_PAUSE`. As `charts.training_pairs`
    takes it: seconds since the first reading instead of a time of day.
    """
    sessions: list[list[dict[str, Any]]] = []
    for row in sorted(rows, key=lambda row: (row["subject_id"], row["sensorReadingTime"])):
        last = sessions[-1][-1] if sessions else None
        if (
            last is None
            or last["subject_id"] != row["subject_id"]
            or row["sensorReadingTime"] - last["sensorReadingTime"] > _PAUSE
        ):
            sessions.append([])
        sessions[-1].append(row)
    rows_of_session = max(sessions, key=len)[:_MOST_POINTS]
    start = rows_of_session[0]["sensorReadingTime"]
    return {
        "seconds": [(row["sensorReadingTime"] - start) / 1000 for row in rows_of_session],
        "distances": [row["distanceFromObject"] for row in rows_of_session],
        "accelerations": {axis: [row[axis] for row in rows_of_session] for axis in ("x", "y", "z")},
    }


# ---------------------------------------------------------------------- preview


def first_rows(store: ObjectStore, table: Table, files: Iterable[DataFile]) -> list[dict[str, Any]]:
    """The first rows of the first file that has any."""
    import pyarrow.parquet as pq
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import PyFileSystem

    first = next((f for f in files if f.rows), None)
    if first is None:
        return []
    wanted = _SESSION_ROWS if table.name == "machine_learning_curated" else PREVIEW_ROWS
    uri, sizes = store.settings.uri(table.path), {first.path: first.bytes}
    storage = PyFileSystem(DeltaStorageHandler(uri, store.storage_options, sizes))
    # One thread, one batch: a dataset's `head` keeps reading in the background, and a process
    # that ends meanwhile crashes.
    with storage.open_input_file(first.path) as file:
        batches = pq.ParquetFile(file).iter_batches(wanted, use_threads=False)
        rows: list[dict[str, Any]] = next(batches).to_pylist()
    # A partition's column is in the file's folder, not in the file.
    return [{"ingest_date": first.ingest_date, **row} for row in rows]


def preview(table: Table, rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a markdown table in which nobody can be told.

    A column of the table a line, so that it fits the page; equal values are said once.
    """
    if not rows:
        return "No rows."
    lines = ["| column | first rows |", "|---|---|"]
    for name in table.column_names:
        shown = dict.fromkeys(_shown(table, name, row[name]) for row in rows)
        lines.append(f"| {name} | {' · '.join(shown)} |")
    return "\n".join(lines)


def _shown(table: Table, name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in table.personal_columns or name == "subject_id":
        return MASK
    if name in _TIMES and value:
        return _time(value)
    text = str(value).replace("|", "\\|")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _time(milliseconds: int) -> str:
    """A time of the lake as a person reads it, UTC; one that no calendar has, as it is."""
    try:
        at = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return str(milliseconds)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"
