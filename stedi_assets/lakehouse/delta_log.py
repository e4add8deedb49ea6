"""What a table's Delta log says: its data files, with the statistics that the project uses.

A `TableLog` is a value. It is read once, from the newest checkpoint on, and then brought up to date
by one listing of the log's newest entries: S3 charges by the request, in time and in money.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.tables.schemas import Table

THREADS = 8
_LOG = logging.getLogger(__name__)
# A commit's `userMetadata` says which write of ours made it.
Commits = Mapping[str, frozenset[str]]  # token -> the paths of the data files that it added


class UnreadableLogError(ValueError):
    """A table's log says what no write of this project says, or cannot be understood."""


# What parsing raises where an entry or checkpoint is cut off, or not as Delta has it.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError)
# The tables' reader and writer version. What newer ones allow (column mapping, row tracking …)
# Athena, delta-rs or the commits that are made here do not know.
_READER_VERSION, _WRITER_VERSION = 1, 2
# The name of a log entry, checkpoint or checksum (which is hidden).
_VERSIONED = re.compile(r"\.?(\d{20})\.")


@dataclass(frozen=True)
class DataFile:
    """One data file of a table."""

    path: str
    rows: int
    bytes: int
    partition: str | None  # the value of the partition column, as in the log
    ingest_date: date | None
    malformed: int
    # First and last time of the readings in it, ms since the epoch; None where it has none.
    first_time: int | None
    last_time: int | None
    # The newest ingest date among its rows; None where it has none.
    newest: date | None


@dataclass(frozen=True)
class TableLog:
    """What the Delta log says of a table at a version."""

    table_id: str  # changes when the table is deleted and recreated
    version: int
    etag: str  # of the version's log entry
    files: tuple[DataFile, ...]
    # The commits of the entries that were read, by their tokens.
    commits: Commits = field(default_factory=dict, compare=False)
    # The version that reading began with: a checkpoint's or, without one, 0.
    base: int = field(default=0, compare=False)
    # What was read since then: the etags of log entries, and of the checkpoint, by their names.
    read: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def by_date(self) -> dict[date | None, list[DataFile]]:
        """The files of every ingest date; of None in a table that is not partitioned."""
        files: dict[date | None, list[DataFile]] = {}
        for file in self.files:
            files.setdefault(file.ingest_date, []).append(file)
        return files

    @cached_property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)

    @cached_property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @cached_property
    def malformed(self) -> int:
        """Malformed rows in all files."""
        return sum(file.malformed for file in self.files)

    def of(self, day: date | None) -> Sequence[DataFile]:
        """The files of an ingest date; of None, all of them."""
        return self.files if day is None else self.by_date.get(day, [])

    def rows_by_date(self) -> dict[date, int]:
        """Rows by ingest date, for partitioned tables."""
        return {day: sum(f.rows for f in files) for day, files in self.by_date.items() if day}


def read_log(store: ObjectStore, table: Table) -> TableLog | None:
    """The log of a table as it is now.

    None where there is no table: it was never written, or its log cannot be read (any more)
    because entries of it are missing or damaged. Then it is created anew.
    """
    try:
        return _read_log(store, table)
    except _UNREADABLE as error:
        why = error if isinstance(error, UnreadableLogError) else type(error).__name__
        _LOG.warning("The log of %s cannot be read (%s): it is a lost table.", table.name, why)
        return None


def _read_log(store: ObjectStore, table: Table) -> TableLog | None:
    folder = f"{table.path}/_delta_log/"
    entries = {
        e["Key"].rpartition("/")[2]: e["ETag"] for e in store.objects(folder, until=f"{folder}9")
    }
    versions, checkpoint = _versions(entries)
    if not versions:
        return None
    names = [f"{version:020}.json" for version in versions]
    start = [f"{checkpoint:020}.checkpoint.parquet"] if checkpoint is not None else []
    with ThreadPoolExecutor(THREADS) as pool:
        bodies = list(pool.map(lambda name: store.get(folder + name), [*start, *names]))
    if None in bodies:
        return None
    lines = [_checkpoint_lines(body[0]) for body in bodies[: len(start)] if body]
    lines += [entry_actions(body[0]) for body in bodies[len(start) :] if body]
    log = TableLog("", -1, "", (), base=checkpoint or 0)
    for version, of_version in zip(
        [*([checkpoint] if start else []), *versions], lines, strict=True
    ):
        log = applied(log, table, int(version or 0), "", of_version)
    if not log.table_id:
        return None
    read = {name: entries[name] for name in [*start, *names]}
    return replace(log, version=versions[-1], etag=entries[names[-1]], read=read)


def _versions(names: Iterable[str]) -> tuple[list[int], int | None]:
    """The versions to read, oldest first, and the checkpoint before them; none where one lacks.

    The newest entry is always read, also where a checkpoint holds it: it tells table from table. A
    checkpoint after it means that entries are lost: whatever were committed as these again, readers
    of Delta would go on seeing the checkpoint.
    """
    versions, checkpoints, newest_checkpoint = set(), set(), -1
    for name in names:
        if match := re.fullmatch(r"(\d{20})\.json", name):
            versions.add(int(match[1]))
        elif match := re.match(r"(\d{20})\.checkpoint\.", name):
            newest_checkpoint = max(newest_checkpoint, int(match[1]))
            if name == f"{match[0]}parquet":  # in one part: the only kind that is read
                checkpoints.add(int(match[1]))
    newest = max(versions, default=-1)
    start = max((c for c in checkpoints if c <= newest), default=None)
    wanted = range(0 if start is None else start + 1, newest + 1)
    if newest < 0 or newest_checkpoint > newest or not set(wanted) <= versions:
        return [], None
    return [*wanted] or [newest], start


def entry_actions(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The actions of a log entry: kind and content."""
    lines = [parse_json(line) for line in body.splitlines() if line.strip()]
    return [action for line in lines for action in line.items()]


def _checkpoint_lines(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The same of a checkpoint."""
    import pyarrow.parquet as pq
    from pyarrow import BufferReader

    file = pq.ParquetFile(BufferReader(body))
    names = {"metaData.id", "metaData.schemaString", "add.path", "add.size", "add.stats"}
    names |= {"protocol.minReaderVersion", "protocol.minWriterVersion"}
    columns_present = {file.schema.column(n).path for n in range(len(file.schema))}
    nested = ("add.partitionValues.", "metaData.partitionColumns.")
    columns = [c for c in columns_present if c in names or c.startswith(nested)]
    lines: list[tuple[str, dict[str, Any]]] = []
    for row in file.read(columns=columns).to_pylist():
        if row["protocol"] and row["protocol"]["minReaderVersion"]:
            lines.append(("protocol", row["protocol"]))
        if row["metaData"] and row["metaData"]["id"]:
            lines.append(("metaData", row["metaData"]))
        if row["add"] and row["add"]["path"]:
            add = row["add"]
            lines.append(
                ("add", {**add, "partitionValues": dict(add.get("partitionValues") or ())})
            )
    return lines


def refreshed(store: ObjectStore, table: Table, log: TableLog | None) -> TableLog | None:
    """A log that was read before, as it is now; one request where nothing was written since.

    Read from its start where that lacks an entry: what this process knows, others cannot read.
    """
    if log is None:
        return read_log(store, table)
    folder = f"{table.path}/_delta_log/"
    entries = {
        e["Key"].rpartition("/")[2]: e["ETag"]
        for e in store.objects(folder, after=f"{folder}{log.base:020}", until=f"{folder}9")
    }
    versions = sorted(int(n[:20]) for n in entries if re.fullmatch(r"\d{20}\.json", n))
    newer = [v for v in versions if v > log.version]
    same = all(entries.get(name) == etag for name, etag in log.read.items())
    complete = newer == list(range(log.version + 1, log.version + 1 + len(newer)))
    if not same or not complete or not _versions(entries)[0]:
        return read_log(store, table)  # it is another table, or its log was cleaned up
    with ThreadPoolExecutor(THREADS) as pool:
        commits = list(pool.map(lambda v: store.get(f"{folder}{v:020}.json"), newer))
    for version, commit in zip(newer, commits, strict=True):
        if commit is None:
            return read_log(store, table)
        try:
            lines = entry_actions(commit[0])
            log = applied(log, table, version, entries[f"{version:020}.json"], lines)
        except _UNREADABLE:
            return read_log(store, table)  # says why it cannot be read
    return log


def applied(
    log: TableLog, table: Table, version: int, etag: str, lines: list[tuple[str, dict[str, Any]]]
) -> TableLog:
    """The log after the actions of one more version; etag: of its log entry."""
    files = {file.path: file for file in log.files}
    added: set[str] = set()
    token, table_id = None, log.table_id
    for kind, action in lines:
        if kind == "metaData":
            table_id = str(action["id"])
            _assert_contracts_columns(action, table)
        elif kind == "protocol":
            _assert_known_protocol(action)
        elif kind == "remove":
            files.pop(unquote(action["path"]), None)
        elif kind == "add":
            file = _data_file(action, table)
            files[file.path] = file
            added.add(file.path)
        elif kind == "commitInfo":
            token = action.get("userMetadata")
    commits = {**log.commits, **({token: frozenset(added)} if token else {})}
    read = {**log.read, f"{version:020}.json": etag}
    return TableLog(table_id, version, etag, tuple(files.values()), commits, log.base, read)


def _assert_known_protocol(protocol: Mapping[str, Any]) -> None:
    reader, writer = protocol["minReaderVersion"], protocol["minWriterVersion"]
    if reader > _READER_VERSION or writer > _WRITER_VERSION:
        raise UnreadableLogError(f"Delta's reader version {reader}, writer version {writer}")


def _assert_contracts_columns(metadata: Mapping[str, Any], table: Table) -> None:
    """UnreadableLogError where a table's columns are not the contract's: of another release, or
    because somebody wrote others. A commit of data files would not bring them back.

    Nor would it bring back what the table is partitioned by, or that a column may be null: from
    our files other readers would take null ingest dates, or no rows.
    """
    types = {"long": "bigint"}
    columns = [
        (f["name"], types.get(f["type"], f["type"]), f["nullable"])
        for f in parse_json(metadata["schemaString"])["fields"]
    ]
    if columns != [(c.name, c.type, True) for c in table.columns]:
        raise UnreadableLogError("columns that are not the contract's")
    by = [table.partition_column] if table.partition_column else []
    if metadata["partitionColumns"] != by:
        raise UnreadableLogError("partitions that are not the contract's")


def _data_file(add: Mapping[str, Any], table: Table) -> DataFile:
    """A data file from an `add` action, its statistics as JSON text."""
    if add.get("deletionVector"):
        raise UnreadableLogError("deletion vectors, which Athena and this project do not read")
    statistics = parse_json(add.get("stats") or "{}")
    least, most = statistics.get("minValues", {}), statistics.get("maxValues", {})
    nulls = statistics.get("nullCount", {}).get("_corrupt_record")
    rows = statistics.get("numRecords", 1)  # not known: not none
    partition = add["partitionValues"].get(table.partition_column)
    day = _date(partition) if table.partitioned else None
    if table.partitioned and (day is None or day.isoformat() != partition):
        raise UnreadableLogError("a file without an ingest date")
    return DataFile(
        path=unquote(add["path"]),
        rows=rows,
        bytes=add["size"],
        partition=partition,
        ingest_date=day,
        malformed=0 if nulls is None else rows - nulls,
        first_time=least.get(table.time_column),
        last_time=most.get(table.time_column),
        newest=day or _date(most.get("ingest_date")),
    )


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text[:10]) if text else None


def is_versioned_log_file(key: str, before_version: int) -> bool:
    """Whether a key is a log entry, checkpoint or checksum of a version before another."""
    match = _VERSIONED.match(key.rpartition("/")[2])
    return match is not None and int(match[1]) < before_version


def is_log_file(path: str) -> bool:
    """Whether a path in a table's folder is of its log, and not of what others left there."""
    folder, _, name = path.rpartition("/")
    is_named_so = _VERSIONED.match(name) is not None or name in ("_last_checkpoint", "")
    return folder == "_delta_log" and is_named_so


def time_intervals(files: Iterable[DataFile]) -> Iterator[tuple[int, int]]:
    """First and last moment of the readings of files that have any, ms since the epoch."""
    for file in files:
        if file.first_time is not None and file.last_time is not None:
            yield file.first_time, file.last_time
        elif file.rows > file.malformed:  # written without statistics: it may be of any time
            yield -(2**63), 2**63 - 1
