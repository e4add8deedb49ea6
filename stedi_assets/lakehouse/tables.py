"""Reads and writes Delta tables on S3, without Dagster: one atomic commit a write.

A DataFrame that was read stays as it was: it names a version. A write replaces whole dates (or the
whole table) in one commit, and says which data files the commit added.
"""

import hashlib
import random
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.client import GoneError, PreconditionError
from stedi_assets.lakehouse.dates import described, on_days
from stedi_assets.lakehouse.delta_commit import (
    CHECKPOINT_INTERVAL,
    commit,
    entry_path,
    first_entry,
    write_checkpoint,
    write_files,
)
from stedi_assets.lakehouse.delta_log import DataFile, TableLog, read_log, refreshed
from stedi_assets.lakehouse.local_files import LOCAL_ROWS, LocalFiles
from stedi_assets.lakehouse.object_store import ObjectStore, folders_between
from stedi_assets.lakehouse.session_views import SessionViews
from stedi_assets.scratch import empty_scratch_folder
from stedi_assets.spark.dialect import is_lost_race
from stedi_assets.spark.errors import is_engine_error, redacted_message
from stedi_assets.spark.session import SparkSessions
from stedi_assets.tables.schemas import Table, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

WRITE_ATTEMPTS = 10
# So many rows are computed once and held for several plans at most.
_HELD_ROWS = 250_000
THREADS = 8
Logs = Mapping[str, TableLog | None]


class EngineError(StediError):
    """The engine failed at computing or writing a table; nothing of it was committed."""


@dataclass(frozen=True)
class ListedFile:
    """A data file as S3 has it."""

    bytes: int
    etag: str


@dataclass
class Lakehouse:
    """The Delta tables of one lake, through one engine; what it knows of their logs is its own."""

    store: ObjectStore
    spark: SparkSessions
    _logs: dict[str, TableLog | None] = field(default_factory=dict, init=False)
    _views: SessionViews = field(init=False)
    _local_files: LocalFiles = field(init=False)

    def __post_init__(self) -> None:
        self._views, self._local_files = SessionViews(self.spark), LocalFiles(self.store)

    @property
    def _embedded(self) -> bool:
        return self.store.settings.spark == "embedded"

    @property
    def spark_session(self) -> "SparkSession":
        """The session of the engine that STEDI_SPARK names, started when it is first used."""
        return self.spark.spark_session

    def log(self, table: Table) -> TableLog | None:
        """A table's log as it was last read or written here; None where there is no table."""
        if table.name not in self._logs:
            self._logs[table.name] = read_log(self.store, table)
        return self._logs[table.name]

    def refresh(self, tables: Iterable[Table]) -> None:
        """Read the logs of tables anew, at the same time: somebody else may have written."""
        tables = list(tables)
        if not tables:
            return
        with ThreadPoolExecutor(THREADS) as pool:
            logs = pool.map(lambda t: refreshed(self.store, t, self._logs.get(t.name)), tables)
            self._logs.update(zip([t.name for t in tables], logs, strict=True))

    def assert_not_lost(self, table: Table) -> None:
        """StediError where a table cannot be read any more: an answer without its rows is wrong.

        A table that was never written is none.
        """
        if self.log(table) is None and any(self.store.objects(f"{table.path}/")):
            raise StediError(
                f"{table.name} is damaged: run `stedi catch-up`, which makes it anew; then ask"
                " again."
            )

    def read(
        self,
        table: Table,
        predicate: str | None = None,
        log: TableLog | None = None,
        files: Sequence[DataFile] | None = None,
    ) -> "DataFrame":
        """A table, or its rows that a SQL predicate takes; StediError where it is not there.

        log: the version to read; the newest that is known, where it is not given. files: those of
        its files that hold what the predicate takes; all of them, where it is not given.
        """
        log = log or self.log(table)
        if log is None:
            raise StediError(
                f"{table.name} was never materialized: run `stedi catch-up`, or materialize it by"
                f" `dagster asset materialize -m stedi_assets.definitions --select {table.name}`."
            )
        files = log.files if files is None else files
        if self._embedded and self._local_files.fit(files):
            frame = self._local_view(table, files)
        else:
            frame = self._version(table, log)
        return frame if predicate is None else frame.where(predicate)

    def held(self, frame: "DataFrame", rows: int) -> "DataFrame":
        """A DataFrame that is used more than once, computed once where it is small.

        rows: how many it has at the most.
        """
        small = self._embedded and rows <= _HELD_ROWS
        return self._views.held(frame) if small else frame

    def _local_view(self, table: Table, files: Sequence[DataFile]) -> "DataFrame":
        """Local copies of files, as a view: a plan that names it is short."""
        spark, schema = self.spark_session, spark_schema(table.columns)
        if not files:
            return spark.createDataFrame([], schema)
        folder = self._local_files.table_of(table, files)

        def make() -> "DataFrame":
            frame = spark.read.format("delta").load(folder.as_uri())
            return frame.select(*table.column_names)

        name = f"{folder.name}_{folder.parent.name.rpartition('-')[2]}"
        return self._views.view(table.name, name, make)

    def drop_local_files(self) -> None:
        """Delete the local copies of data; no DataFrame that was read may be in use."""
        if self._embedded:
            self._views.drop()
            empty_scratch_folder()

    def _version(self, table: Table, log: TableLog) -> "DataFrame":
        """A table at a version, by a view: Sail opens a path anew for every plan that names it."""
        # The version's entry too: a folder put back from a copy may have got another since.
        same = hashlib.sha256(f"{log.table_id} {log.etag}".encode()).hexdigest()[:20]
        name = f"{table.name}_v{log.version}_{same}"

        def make() -> "DataFrame":
            reader = self.spark_session.read.format("delta")
            frame = reader.option("versionAsOf", str(log.version))
            return frame.load(self.store.settings.uri(table.path)).select(*table.column_names)

        return self._views.view(table.name, name, make)

    def replace(
        self,
        table: Table,
        frame: "DataFrame",
        days: Collection[date] | None,
        column: str = "ingest_date",
        rows: int | None = None,
        files: Collection[Path] = (),
    ) -> dict[str, str]:
        """Replace the rows of some dates (None: all rows), in one atomic commit.

        Hold the table's `write_lock`. Rows of other dates are left out. rows: how many there are at
        the most, where that is known; files: local ones that the rows are computed from.

        Returns the etags of the data files that the commit added, by their paths; none where
        nothing changed. StediError where columns or types are not the contract's, EngineError where
        the engine fails, GoneError where one of the local files is gone; nothing is committed then.
        """
        check_columns(table, frame)
        log = self.log(table)
        if log is None:
            # Read again: `_create` deletes leftovers, and another may have created the table.
            log = read_log(self.store, table) or _create(self.store, table)
            self._logs[table.name] = log
        predicate = "true" if days is None else on_days(days, column)
        if days is not None:
            frame = frame.where(predicate)
        token = uuid.uuid4().hex
        try:
            if self._embedded:
                local = self._local_files if rows is not None and rows <= LOCAL_ROWS else None
                log, etags = _write_and_commit(
                    self.store, local, table, log, frame, days, token, files
                )
                self._logs[table.name] = log
                return etags
            self._write_by_delta(table, frame, predicate, token)
        except Exception as error:
            if not is_engine_error(error):
                raise
            scope = f" for {described(days)}" if days else ""
            why = redacted_message(error)
            raise EngineError(f"{table.name} was not written{scope}: {why}") from None
        self.refresh([table])
        written = self.log(table)
        added = written.commits.get(token, frozenset()) if written else frozenset()
        listed = self.data_files(table) if added else {}
        return {path: listed[path].etag for path in added if path in listed}

    def data_files(
        self, table: Table, days: Collection[date] | None = None
    ) -> dict[str, ListedFile]:
        """The objects in a table's folder as S3 lists them, by their paths there.

        days: only the folders from the first to the last of these ingest dates; there is no request
        where there are none.
        """
        folder = f"{table.path}/"
        # A log's folder comes before the partitions' by its name, and is long: left out.
        after = f"{folder}_delta_log/A" if table.partition_column else None
        until = None
        if days is not None:
            if not days:
                return {}
            after, until = folders_between(f"{folder}ingest_date=", min(days), max(days))
        listed = self.store.objects(folder, after=after, until=until)
        return {e["Key"][len(folder) :]: ListedFile(e["Size"], _bare(e["ETag"])) for e in listed}

    def files_as_read(
        self, table: Table, days: Collection[date] | None = None
    ) -> dict[str, ListedFile]:
        """As `data_files`, of a table that was read since the local copies were dropped.

        Without an etag is a file of which the copy that was read is of another object.
        """
        listed = self.data_files(table, days)
        for path, file in listed.items():
            copied = self._local_files.etag(table, path)
            if copied and _bare(copied) != file.etag:
                listed[path] = replace(file, etag="")
        return listed

    def _write_by_delta(self, table: Table, frame: "DataFrame", predicate: str, token: str) -> None:
        _replace_where(self.store.settings.uri(table.path), frame, predicate, token)


def _write_and_commit(
    store: ObjectStore,
    local: LocalFiles | None,
    table: Table,
    log: TableLog,
    frame: "DataFrame",
    days: Collection[date] | None,
    token: str,
    needed: Collection[Path],
) -> tuple[TableLog, dict[str, str]]:
    """Write data files, by local ones where given, and commit them in the place of the dates'.

    The log after it, and the etags of the files by their paths.
    """
    only = next(iter(days)).isoformat() if days and len(days) == 1 else None
    if local:
        added = local.write(table, frame, token, only)
    else:
        added = write_files(store, table, frame, f"part-{token}", only)
    if not all(path.exists() for path in needed):
        # The engine takes a file that is gone for one without rows.
        raise GoneError(f"Temporary files of {table.name} were deleted: run it again.")
    values = None if days is None else {day.isoformat() for day in days}
    removed = [f for f in log.files if values is None or f.partition in values]
    if added or removed:
        log = commit(store, table, log, added, removed, token)
        if log.version % CHECKPOINT_INTERVAL == 0:
            write_checkpoint(store, table)
    return log, {file.path: _bare(file.etag) for file in added}


def _bare(etag: str) -> str:
    """An etag without quotes: not every server has them in a listing and after a put alike.

    (Nor does every proxy that compresses leave it as it was: `W/` says so.)
    """
    return etag.removeprefix("W/").strip('"')


def _replace_where(uri: str, frame: "DataFrame", predicate: str, token: str) -> None:
    """Write by the engine's own Delta writer, again where another writer was first."""
    writer = frame.write.format("delta").mode("overwrite").option("userMetadata", token)
    writer = writer.option("replaceWhere", predicate)
    for attempt in range(1, WRITE_ATTEMPTS + 1):
        try:
            writer.save(uri)
        except Exception as error:  # the engines' own error classes have nothing in common
            if not is_lost_race(error) or attempt == WRITE_ATTEMPTS:
                raise
            time.sleep(random.uniform(0, min(5.0, 0.05 * 2**attempt)))
        else:
            return


def _create(store: ObjectStore, table: Table) -> TableLog:
    """Create a table without rows, after deleting leftovers of a lost one."""
    store.delete_below(f"{table.path}/")
    with suppress(PreconditionError):  # another created it meanwhile
        store.put(entry_path(table, 0), first_entry(table), IfNoneMatch="*")
    log = read_log(store, table)
    if log is None:
        raise StediError(f"{table.name} was deleted while it was created: run it again.")
    return log


def check_columns(table: Table, frame: "DataFrame") -> None:
    """StediError where the DataFrame's columns are not the contract's, in names, types, order."""
    wanted = {f.name: f.dataType.simpleString() for f in spark_schema(table.columns).fields}
    given = {f.name: f.dataType.simpleString() for f in frame.schema.fields}
    if list(given.items()) == list(wanted.items()):
        return
    wrong = [
        *(f"{name} is missing" for name in wanted if name not in given),
        *(f"{name} is not in the contract" for name in given if name not in wanted),
        *(
            f"{name} is {given[name]}, not {wanted[name]}"
            for name in wanted
            if name in given and given[name] != wanted[name]
        ),
    ] or [f"their order is not {', '.join(wanted)}"]
    raise StediError(f"Columns of {table.name} differ from the contract: {'; '.join(wrong)}.")
