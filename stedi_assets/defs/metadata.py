"""What a materialization tells of itself: counts, version, size, and a masked preview.

All from the Delta log and the first rows of one file: nothing is computed a second time.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

import dagster as dg

from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.lakehouse.delta_log import DataFile, TableLog
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.tables.schemas import Table

PREVIEW_ROWS = 5
LONGEST = 24  # a longer text, such as subject_id, would push the other columns off the page


def materialization_metadata(
    pipeline: Pipeline,
    table: Table,
    log: TableLog,
    day: date | None,
    *,
    with_preview: bool = True,
) -> dict[str, Any]:
    """The metadata of a table's partition (None: of the whole table), as Dagster's UI knows it."""
    store = pipeline.lakehouse.store
    files = log.of(day, day)
    rows = sum(f.rows for f in files)
    metadata: dict[str, Any] = {
        "dagster/uri": store.settings.uri(table.path),
        "dagster/row_count": sum(f.rows for f in log.files),
        "delta_version": log.version,
        "size": sum(f.bytes for f in files),
        "files": len(files),
    }
    if with_preview:
        metadata["preview"] = dg.MetadataValue.md(preview(table, first_rows(store, table, files)))
    if day is not None:
        metadata["dagster/partition_row_count"] = rows
    if table.zone == "landing":
        metadata["malformed"] = sum(f.malformed for f in files)
    return metadata


def first_rows(store: ObjectStore, table: Table, files: Iterable[DataFile]) -> list[dict[str, Any]]:
    """The first rows of the first file that has any."""
    import pyarrow.parquet as pq
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import PyFileSystem

    first = next((f for f in files if f.rows), None)
    if first is None:
        return []
    uri, sizes = store.settings.uri(table.path), {first.path: first.bytes}
    storage = PyFileSystem(DeltaStorageHandler(uri, store.storage_options, sizes))
    # One thread, one batch: a dataset's `head` reads on behind our back, and a process that ends
    # meanwhile crashes.
    with storage.open_input_file(first.path) as file:
        batches = pq.ParquetFile(file).iter_batches(PREVIEW_ROWS, use_threads=False)
        rows: list[dict[str, Any]] = next(batches).to_pylist()
    # A partition's column is in the file's folder, not in the file.
    return [{"ingest_date": first.ingest_date, **row} for row in rows]


def preview(table: Table, rows: list[dict[str, Any]]) -> str:
    """Rows as a markdown table in which no personal value can be read."""
    names = table.column_names
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_shown(table, name, row) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _shown(table: Table, name: str, row: dict[str, Any]) -> str:
    value = row[name]
    if value is None:
        return ""
    text = "•••" if name in table.personal_columns else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
