"""What a table's Delta log says: its data files, with the statistics that the project uses.

A `TableLog` is a value. It is read once by delta-rs and then brought up to date by one listing of
the log's newest entries: S3 charges by the request, in time and in money.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.tables.schemas import Table

# A commit's `userMetadata` says which write of ours made it.
Commits = Mapping[str, frozenset[str]]  # token -> the paths of the data files that it added


@dataclass(frozen=True)
class DataFile:
    """One data file of a table."""

    path: str
    rows: int
    bytes: int
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

    table_id: str  # another one when the table was deleted and made anew
    version: int
    etag: str  # of the version's log entry
    files: tuple[DataFile, ...]
    # The commits that were seen since the log was first read.
    commits: Commits = field(default_factory=dict, compare=False)

    @cached_property
    def by_date(self) -> dict[date | None, list[DataFile]]:
        """The files of every ingest date; of None in a table that is not partitioned."""
        files: dict[date | None, list[DataFile]] = {}
        for file in self.files:
            files.setdefault(file.ingest_date, []).append(file)
        return files

    def of(self, start: date | None = None, end: date | None = None) -> list[DataFile]:
        """The files of the ingest dates from start to end, both included; None is open."""
        return [
            f
            for f in self.files
            if (start is None or (f.ingest_date is not None and f.ingest_date >= start))
            and (end is None or (f.ingest_date is not None and f.ingest_date <= end))
        ]

    def rows_by_date(self) -> dict[date, int]:
        """Rows by ingest date, for partitioned tables."""
        return {day: sum(f.rows for f in files) for day, files in self.by_date.items() if day}


def read_log(store: ObjectStore, table: Table) -> TableLog | None:
    """The log of a table as it is now.

    None where there is no table: it was never written, or what is left of its log cannot be read
    any more because entries of it are missing (then it is created anew).
    """
    import pyarrow
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    entries = {e["Key"].rpartition("/")[2]: e for e in store.objects(f"{table.path}/_delta_log/")}
    if not _is_complete(entries):
        return None
    try:
        delta = DeltaTable(store.settings.uri(table.path), storage_options=store.storage_options)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise StediError(
            f"The Delta log of {table.name} cannot be read ({type(error).__name__}): check S3, or"
            " build the tables anew with `stedi rebuild`."
        ) from None
    actions = pyarrow.table(delta.get_add_actions(flatten=True)).to_pylist()
    version = delta.version()
    entry = entries.get(f"{version:020}.json")
    return TableLog(
        str(delta.metadata().id),
        version,
        entry["ETag"] if entry else "",
        tuple(_from_action(action, table.time_column) for action in actions),
    )


def _is_complete(names: Iterable[str]) -> bool:
    """Whether a log's entries lead without a gap from its start or a checkpoint to the newest."""
    versions, checkpoints = set(), {-1}
    for name in names:
        if match := re.fullmatch(r"(\d{20})\.json", name):
            versions.add(int(match[1]))
        elif match := re.match(r"(\d{20})\.checkpoint\.", name):
            checkpoints.add(int(match[1]))
    newest = max(versions | checkpoints)
    if newest < 0:
        return False
    return set(range(max(checkpoints) + 1, newest + 1)) <= versions


def refreshed(store: ObjectStore, table: Table, log: TableLog | None) -> TableLog | None:
    """A log that was read before, as it is now; one request where nothing was written since."""
    if log is None:
        return read_log(store, table)
    folder = f"{table.path}/_delta_log/"
    after = f"{folder}{max(log.version - 1, 0):020}.json" if log.version else None
    entries = {
        e["Key"].rpartition("/")[2]: e["ETag"]
        for e in store.objects(folder, after=after, until=f"{folder}9")
    }
    versions = sorted(int(n[:20]) for n in entries if re.fullmatch(r"\d{20}\.json", n))
    newer = [v for v in versions if v > log.version]
    same = entries.get(f"{log.version:020}.json") == log.etag
    if not same or newer != list(range(log.version + 1, log.version + 1 + len(newer))):
        return read_log(store, table)  # another table stands there, or its log was cleaned
    with ThreadPoolExecutor(8) as pool:
        commits = list(pool.map(lambda v: store.get(f"{folder}{v:020}.json"), newer))
    for version, commit in zip(newer, commits, strict=True):
        changed = _after_commit(log, table, version, commit, entries[f"{version:020}.json"])
        if changed is None:
            return read_log(store, table)
        log = changed
    return log


def _after_commit(
    log: TableLog, table: Table, version: int, commit: tuple[bytes, str] | None, etag: str
) -> TableLog | None:
    """The log after one more commit; None where that says more than which files there are."""
    if commit is None:
        return None
    files = {file.path: file for file in log.files}
    added: set[str] = set()
    token = None
    for line in commit[0].splitlines():
        (kind, action), *_ = json.loads(line).items()
        if kind == "metaData" and action["id"] != log.table_id:
            return None
        if kind == "remove":
            files.pop(unquote(action["path"]), None)
        elif kind == "add":
            file = _from_entry(action, table.time_column)
            files[file.path] = file
            added.add(file.path)
        elif kind == "commitInfo":
            token = action.get("userMetadata")
    commits = {**log.commits, **({token: frozenset(added)} if token else {})}
    return TableLog(log.table_id, version, etag, tuple(files.values()), commits)


def _from_action(action: Mapping[str, Any], time_column: str | None) -> DataFile:
    """A file from delta-rs's table of add actions, statistics as columns."""
    nulls = action.get("null_count._corrupt_record")
    return DataFile(
        path=action["path"],
        rows=action["num_records"],
        bytes=action["size_bytes"],
        ingest_date=action.get("partition.ingest_date"),
        malformed=0 if nulls is None else action["num_records"] - nulls,
        first_time=action.get(f"min.{time_column}"),
        last_time=action.get(f"max.{time_column}"),
        newest=action.get("partition.ingest_date") or action.get("max.ingest_date"),
    )


def _from_entry(add: Mapping[str, Any], time_column: str | None) -> DataFile:
    """A file from the `add` action of a log entry, statistics as JSON text."""
    statistics = json.loads(add.get("stats") or "{}")
    least, most = statistics.get("minValues", {}), statistics.get("maxValues", {})
    nulls = statistics.get("nullCount", {}).get("_corrupt_record")
    rows = statistics["numRecords"]
    day = _date(add["partitionValues"].get("ingest_date"))
    return DataFile(
        path=unquote(add["path"]),
        rows=rows,
        bytes=add["size"],
        ingest_date=day,
        malformed=0 if nulls is None else rows - nulls,
        first_time=least.get(time_column),
        last_time=most.get(time_column),
        newest=day or _date(most.get("ingest_date")),
    )


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text[:10]) if text else None


def is_versioned_log_file(key: str, before_version: int) -> bool:
    """Whether a key is a log entry, checkpoint or checksum of a version before another."""
    match = re.match(r"\.?(\d{20})\.", key.rpartition("/")[2])
    return match is not None and int(match[1]) < before_version


def time_intervals(files: Iterable[DataFile]) -> Iterator[tuple[int, int]]:
    """First and last moment of the readings of files that have any, ms since the epoch."""
    for file in files:
        if file.first_time is not None and file.last_time is not None:
            yield file.first_time, file.last_time
        elif file.rows > file.malformed:  # written without statistics: it may be of any time
            yield -(2**63), 2**63 - 1
