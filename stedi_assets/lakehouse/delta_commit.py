"""Commits data files to a Delta table: one object that is put only where nothing is.

The embedded engine writes a table in some fifty requests, since it opens it anew several times;
S3 takes 25 ms for each. So it only writes parquet files (see `local_files.py`; huge ones into a
folder of their own on S3), and the commit is made here, from the log that is known already: which
files it adds and which it removes. Until the commit nobody sees the files. (Apache Spark writes
Delta by itself: `lakehouse/tables.py`.)

Protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md, reader version 1, writer 2.
"""

import functools
import json
import logging
import tempfile
import uuid
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from stedi_assets.errors import StediError
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.client import GoneError, PreconditionError
from stedi_assets.lakehouse.delta_log import DataFile, TableLog, applied, entry_actions
from stedi_assets.lakehouse.file_statistics import statistics_of_footer
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.spark.errors import error_line
from stedi_assets.tables.schemas import Table

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame

THREADS = 8
# The footer of a file that the engine wrote fits in this; where not, it is read once more.
_TAIL_BYTES = 64 << 10
# Another checkpoint after so many commits: opening a table reads all entries since the last one.
CHECKPOINT_INTERVAL = 10
_LOG = logging.getLogger(__name__)
# In a table's folder: says which checkpoint is the newest.
HINT = "_delta_log/_last_checkpoint"


@dataclass(frozen=True)
class NewFile:
    """A data file that was written and is not committed yet; path in the table's folder."""

    path: str
    bytes: int
    partition: str | None  # the value of the partition column, as text
    statistics: Mapping[str, Any]
    etag: str = ""  # of the object on S3


def entry_path(table: Table, version: int) -> str:
    """The path of a version's log entry."""
    return f"{table.path}/_delta_log/{version:020}.json"


def first_entry(table: Table) -> bytes:
    """The log entry that makes a table without rows: every time another one, by its id.

    By the id a table that was lost and made again is told from the lost one.
    """
    lines = [json.loads(line) for line in _creation(table).splitlines()]
    for line in lines:
        if "metaData" in line:
            line["metaData"]["id"] = str(uuid.uuid4())
    return "\n".join(json.dumps(line) for line in lines).encode()


@functools.cache
def _creation(table: Table) -> bytes:
    """The first log entry of such a table as delta-rs writes it."""
    from deltalake import DeltaTable, Field, Schema
    from deltalake.schema import PrimitiveType

    names = {"bigint": "long", "double": "double", "string": "string", "date": "date"}
    with tempfile.TemporaryDirectory() as folder:
        DeltaTable.create(
            folder,
            Schema([Field(c.name, PrimitiveType(names[c.type])) for c in table.columns]),
            partition_by=[table.partition_column] if table.partition_column else None,
            description=table.row,
        )
        return (Path(folder) / "_delta_log" / f"{0:020}.json").read_bytes()


def entry_that_makes(table: Table, files: Iterable[NewFile]) -> bytes:
    """The log entry that makes a table of given files, without their statistics."""
    lines = [json.dumps(_add(table, file, 0)) for file in files]
    return first_entry(table) + b"\n" + "\n".join(lines).encode()


def write_parquet(
    frame: "DataFrame", uri: str, column: str | None, partition: str | None = None
) -> None:
    """Write a DataFrame as parquet files below a URI, by the partition column where there is one.

    partition: the one value of the partition column that all rows have, where that is known: then
    every core writes a file, where the engine takes one for each value.
    """
    if column and partition:
        frame.drop(column).write.mode("append").parquet(f"{uri}/{column}={partition}")
    elif column:
        frame.write.mode("append").partitionBy(column).parquet(uri)
    else:
        frame.write.mode("append").parquet(uri)


def write_files(
    store: ObjectStore,
    table: Table,
    frame: "DataFrame",
    folder: str,
    partition: str | None = None,
) -> list[NewFile]:
    """Write a DataFrame as parquet files into a new folder of a table's folder.

    partition: as for `write_parquet`.
    """
    uri = store.settings.uri(f"{table.path}/{folder}")
    write_parquet(frame, uri, table.partition_column, partition)
    listed = [
        entry
        for entry in store.objects(f"{table.path}/{folder}/")
        if entry["Key"].endswith(".parquet") and entry["Size"]
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        return [f for f in pool.map(lambda entry: _new_file(store, table, entry), listed) if f]


def _new_file(store: ObjectStore, table: Table, entry: Mapping[str, Any]) -> NewFile | None:
    """A file with its statistics, from its footer; None where it has no rows."""
    path = entry["Key"][len(table.path) + 1 :]
    partition = None
    if table.partition_column:
        parent = path.split("/")[-2]
        partition = unquote(parent.removeprefix(f"{table.partition_column}="))
    statistics = statistics_of_footer(table, _footer(store, entry["Key"], entry["Size"]))
    if not statistics["numRecords"]:
        return None
    return NewFile(path, entry["Size"], partition, statistics, entry["ETag"])


def _footer(store: ObjectStore, key: str, size: int) -> Any:
    """The footer of a parquet file, by one request where it is short."""
    import pyarrow.parquet as pq
    from pyarrow import BufferReader

    tail = store.get_range(key, max(0, size - _TAIL_BYTES), size)
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if footer_bytes > len(tail):
        tail = store.get_range(key, size - footer_bytes, size)
    return pq.read_metadata(BufferReader(tail))


def commit(
    store: ObjectStore,
    table: Table,
    log: TableLog,
    added: Collection[NewFile],
    removed: Iterable[DataFile],
    token: str,
) -> TableLog:
    """Add and remove files in one commit, the version after the log's; the log with it.

    token: kept in the commit, to find it again. PreconditionError where another was first.
    """
    # By S3's clock: `erase` keeps what left the table "later" than it looks.
    now = int(store.roughly_now().timestamp() * 1000)
    lines = [
        _commit_info(now, token),
        *(_remove(table, file, now) for file in removed),
        *(_add(table, file, now) for file in added),
    ]
    body = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines).encode()
    path = entry_path(table, log.version + 1)
    try:
        etag = store.put(path, body, IfNoneMatch="*")
    except PreconditionError:
        # The put may have got there and its answer not: then the client asked again.
        existing = store.get(path)
        if existing is None or existing[0] != body:
            raise
        etag = existing[1]
    return applied(log, table, log.version + 1, etag, entry_actions(body))


def _commit_info(now: int, token: str) -> dict[str, Any]:
    return {
        "commitInfo": {
            "timestamp": now,
            "operation": "WRITE",
            "operationParameters": {"mode": "Overwrite"},
            "engineInfo": "stedi_assets",
            "userMetadata": token,
        }
    }


def _remove(table: Table, file: DataFile, now: int) -> dict[str, Any]:
    return {
        "remove": {
            "path": quote(file.path, safe="/=-_.~"),
            "deletionTimestamp": now,
            "dataChange": True,
            "extendedFileMetadata": True,
            "partitionValues": _partition_values(table, file.partition),
            "size": file.bytes,
        }
    }


def _add(table: Table, file: NewFile, now: int) -> dict[str, Any]:
    return {
        "add": {
            "path": quote(file.path, safe="/=-_.~"),
            "partitionValues": _partition_values(table, file.partition),
            "size": file.bytes,
            "modificationTime": now,
            "dataChange": True,
            **({"stats": json.dumps(file.statistics)} if file.statistics else {}),
        }
    }


def _partition_values(table: Table, value: str | None) -> dict[str, str | None]:
    return {table.partition_column: value} if table.partition_column else {}


def open_by_delta_rs(store: ObjectStore, table: Table) -> "DeltaTable":
    """A table for what only delta-rs does; DeltaError where its log cannot be read."""
    from deltalake import DeltaTable

    _delete_dangling_hint(store, table)
    return DeltaTable(store.settings.uri(table.path), storage_options=store.storage_options)


def mend_hint(store: ObjectStore, table: Table, log: TableLog) -> None:
    """Have `_last_checkpoint` mean the checkpoint that the log was read from, if it is not right.

    Some readers (Trino) go by it alone, and without it by the table's first entry, which may be
    gone since there is a checkpoint.
    """
    import pyarrow.parquet as pq
    from pyarrow import BufferReader

    hint = store.get(f"{table.path}/{HINT}")
    if (hint is None and not log.base) or (hint and _is_right(store, table, hint[0], log)):
        return
    path = f"{table.path}/_delta_log/{log.base:020}.checkpoint.parquet"
    checkpoint = store.get(path) if log.base else None
    if checkpoint is None:
        store.delete([f"{table.path}/{HINT}"])
        return
    rows = pq.read_metadata(BufferReader(checkpoint[0])).num_rows
    body = json.dumps({"version": log.base, "size": rows}).encode()
    condition = {"IfMatch": hint[1]} if hint else {"IfNoneMatch": "*"}
    with suppress(PreconditionError, GoneError):  # another wrote a newer one meanwhile
        store.put(f"{table.path}/{HINT}", body, **condition)


def _delete_dangling_hint(store: ObjectStore, table: Table) -> None:
    hint = store.get(f"{table.path}/{HINT}")
    if hint is not None and not _is_right(store, table, hint[0]):
        store.delete([f"{table.path}/{HINT}"])


def _is_right(store: ObjectStore, table: Table, hint: bytes, log: TableLog | None = None) -> bool:
    """Whether a hint means a checkpoint that is there and not outdated.

    delta-rs, and so the embedded engine, does not open a table with another one, though the log's
    entries may all be there. From an outdated one (a folder that was put back from a copy) Trino
    reads on entry by entry, and takes the first that is missing for the end. log: as it was read;
    where that was from the very checkpoint, S3 is not asked for it.
    """
    version = _version_of(hint)
    if version is None or (log is not None and version < log.base):
        return False
    if version and log is not None and version == log.base:
        return True
    return any(store.objects(f"{table.path}/_delta_log/{version:020}.checkpoint"))


def _version_of(hint: bytes) -> int | None:
    """The version of the checkpoint that `_last_checkpoint` means; None where it means none."""
    try:
        return int(parse_json(hint)["version"])
    except (ValueError, KeyError, TypeError):
        return None


def write_checkpoint(store: ObjectStore, table: Table) -> None:
    """Sum up a table's log so far, so that opening it reads one object and the entries since.

    Where S3 fails meanwhile it is left to a later commit, with a warning: the table is complete.
    """
    from deltalake.exceptions import DeltaError

    try:
        open_by_delta_rs(store, table).create_checkpoint()
    except (DeltaError, OSError, StediError) as error:
        _LOG.warning(
            "No checkpoint of %s was written (%s): a later commit writes one.",
            table.name,
            error_line(error),
        )
