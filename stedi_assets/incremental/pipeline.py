"""Builds partitions: reads a table's inputs as they are at one moment, computes, writes, records.

The IO manager and the job `catch_up` both go through here, so there is one way in which a
partition is built and entered into the ledger.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from stedi_assets.errors import StediError
from stedi_assets.incremental.attempts import Attempt, begin, end
from stedi_assets.incremental.inputs import list_days, read_objects, read_upstream
from stedi_assets.incremental.lake_state_reader import LakeStateReader
from stedi_assets.incremental.ledger import (
    Ledger,
    LedgerEntry,
    PartitionKey,
    contents_of,
    files_of,
    fingerprint,
    read_ledger,
    record,
    refused_keys,
)
from stedi_assets.incremental.partition_inputs import (
    Inputs,
    LakeState,
    inputs_of,
    landing_inputs,
)
from stedi_assets.incremental.planner import out_of_date
from stedi_assets.incremental.read_rows import Partitions, together
from stedi_assets.incremental.table_functions import table_functions
from stedi_assets.lakehouse.client import GoneError, PreconditionError
from stedi_assets.lakehouse.dates import described
from stedi_assets.lakehouse.delta_log import TableLog
from stedi_assets.lakehouse.tables import EngineError, Lakehouse
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.landing.layout import LandedObject
from stedi_assets.landing.reader import LandedRecords
from stedi_assets.settings import Settings
from stedi_assets.spark.errors import shown_key
from stedi_assets.tables.schemas import TABLES, Table, tables_of_people

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Listings = Mapping[date, list[LandedObject]]
_LEAST_RECORD = 40  # bytes of text
_GZIP_RATIO = 20


class InputsChangedError(StediError):
    """The inputs of a write changed after they were read."""


@dataclass(frozen=True)
class Batch:
    """Rows together with what was read to make them: the lake's state, and for landed objects
    their listing."""

    frame: "DataFrame"
    state: LakeState
    rows: int  # at most, of what was read
    listings: Listings = field(default_factory=dict)
    last_modified: Mapping[LandedObject, float] = field(default_factory=dict)
    files: Sequence[Path] = ()  # local ones that the rows are computed from
    refused: Sequence[LandedObject] = ()  # landed objects that S3 did not give
    partitions: Partitions = field(default_factory=dict)  # this and the next as of `ReadRows`
    sound: bool = True


@dataclass
class Pipeline:
    """Builds the lake's tables and their ledgers; keeps the state that it last read or wrote."""

    lakehouse: Lakehouse
    _reader: LakeStateReader = field(init=False)
    _begun: set[tuple[str, frozenset[PartitionKey]]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._reader = LakeStateReader(self.lakehouse)

    @property
    def settings(self) -> Settings:
        """The settings of the lake."""
        return self.lakehouse.store.settings

    def refresh(self, *, verify_files: bool = False) -> None:
        """Read logs, ledgers and attempts anew, at the same time: somebody else may have written.

        verify_files: also list the tables' data files, to find those that are gone.
        """
        self._begun.clear()
        self._reader.refresh(verify_files=verify_files)

    def state(self, *, with_membership: bool = True) -> LakeState:
        """What the lake holds, as it was last read or written here; read now where it never was.

        Without membership: enough for landing tables. With it, where it is not kept for the landing
        tables' files, it is computed: the engine is started, roll-ups and membership are written,
        and StediError where the engine or S3 fails.
        """
        return self._reader.state(with_membership=with_membership)

    def ledger(self, table: Table) -> Ledger:
        """A table's ledger, as it was last read or written here."""
        return self.state(with_membership=False).ledgers[table.name]

    def attempts(self) -> list[Attempt]:
        """What was begun and not finished, longest ago first, as last read or written here."""
        self.state(with_membership=False)
        return self._reader.attempts

    def end_attempts(self, table: Table, out_of_date: Collection[PartitionKey]) -> None:
        """Forget attempts at partitions of a table that are up to date all the same."""
        begun = {key for a in self.attempts() if a.table == table.name for key in a.keys}
        self._end(table, begun.difference(out_of_date))

    def _begin(self, table: Table, days: Collection[date]) -> None:
        attempts = self.attempts()
        begun = table.name, frozenset[PartitionKey](days if table.partitioned else [None])
        if begun[1] and begun not in self._begun:  # of a table with two inputs it is
            self._reader.attempts = begin(self.lakehouse.store, attempts, *begun)
            self._forget_begun(*begun)
            self._begun.add(begun)

    def _end(self, table: Table, keys: Iterable[PartitionKey]) -> None:
        ended = frozenset(keys)
        self._reader.attempts = end(self.lakehouse.store, self._reader.attempts, table.name, ended)
        self._forget_begun(table.name, ended)

    def _forget_begun(self, table: str, keys: frozenset[PartitionKey]) -> None:
        self._begun -= {begun for begun in self._begun if begun[0] == table and begun[1] & keys}

    def read_input(self, table: Table, upstream: str, days: Collection[date]) -> Batch:
        """One upstream table, as far as some dates of a table need it, with the lake's state."""
        self._begin(table, days)
        state = self.state(with_membership=table.name != "customer_trusted")
        read = read_upstream(self.lakehouse, state, table, upstream, days)
        return Batch(read.frame, state, read.rows, partitions=read.partitions, sound=read.sound)

    def read_landing(self, table: Table, days: Collection[date]) -> Batch:
        """The records that landed for a landing table on some dates.

        InputsChangedError where an object is replaced while it is read; StediError where a
        customers' object that was read before cannot be any more: its records stay as they are.
        """
        self._begin(table, days)
        state = self.state(with_membership=False)
        listings, last_modified = list_days(self.lakehouse, table, days)
        try:
            read = self._read_records(table, state, listings, last_modified)
        except PreconditionError:
            raise InputsChangedError(
                f"An object of {table.name} was replaced while it was read: run it again."
            ) from None
        size = sum(_text_bytes(o) for objects in listings.values() for o in objects)
        rows = size // _LEAST_RECORD
        return Batch(read.frame, state, rows, listings, last_modified, read.files, read.refused)

    def _read_records(
        self,
        table: Table,
        state: LakeState,
        listings: Listings,
        last_modified: Mapping[LandedObject, float],
        exactly: bool = False,
    ) -> LandedRecords:
        """The records of landed objects; exactly: by the exact parser. StediError as of
        `read_landing`."""
        read = read_objects(self.lakehouse, table, listings, exactly=exactly)
        if table.name == "customer_landing":
            _assert_nothing_is_forgotten(table, state, listings, last_modified, read.refused)
        return read

    def compute(self, table: Table, **inputs: Batch) -> Batch:
        """A table's rows from its inputs, by its function in `tables/`.

        inputs: the upstream tables by name; of a landing table, `records`. The batch has the first
        one's state: the lake may not be refreshed between reading them.
        """
        function = table_functions(self.settings)[table.name]
        frame = function(**{name: batch.frame for name, batch in inputs.items()})
        batches = list(inputs.values())
        return replace(
            batches[0],
            frame=frame,
            rows=sum(batch.rows for batch in batches),
            partitions=together(*(batch.partitions for batch in batches)),
            sound=all(batch.sound for batch in batches),
        )

    def read_and_compute(self, table: Table, days: Collection[date] | None) -> Batch:
        """The rows of some dates of a table (None: all of it), from what is upstream now."""
        if table.zone == "landing":
            return self.compute(table, records=self.read_landing(table, days or ()))
        upstream = {name: self.read_input(table, name, days or ()) for name in table.upstream}
        return self.compute(table, **upstream)

    def write(
        self, table: Table, days: Collection[date] | None, batch: Batch, run_id: str = ""
    ) -> TableLog:
        """Replace dates of a table (None: all of it) by a batch, and enter them into the ledger.

        The table's log after the commit. A date gets no entry where an object of it was written
        since it was listed: what was read may have been another than what is there now.

        InputsChangedError where another run wrote them, or what they are made of, since the batch
        was read, EngineError where the engine fails: nothing is written then. StediError where S3
        fails, the lock is lost or the ledger cannot be written: then the rows may be there, and
        count as out of date.
        """
        keys: Sequence[PartitionKey] = [None]
        if days is not None:
            keys = sorted(days)
        with write_lock(self.lakehouse.store, table.name):
            self._assert_nothing_changed(table, keys, batch.state)
            batch, added = self._replace(table, days, batch)
            log = self.lakehouse.log(table)
            assert log is not None, "written just now"
            sound = self._upstream_is_as_written(batch)
            entries = _entries(table, keys, _inputs(table, batch, sound), batch, log, added, run_id)
            entries |= dict.fromkeys(self._dates_rewritten(table, batch))
            self._reader.ledgers[table.name] = record(
                self.lakehouse.store, table, self._reader.ledgers[table.name], log.table_id, entries
            )
        self._end(table, keys)
        return log

    def _assert_nothing_changed(
        self, table: Table, keys: Sequence[PartitionKey], state: LakeState
    ) -> None:
        upstream = [TABLES[name] for name in table.upstream]
        self.lakehouse.refresh([table, *upstream])
        log, before = self.lakehouse.log(table), state.logs[table.name]
        same_table = (log and log.table_id) == (before and before.table_id)
        unchanged = same_table and all(files_of(log, key) == files_of(before, key) for key in keys)
        changed = [t for t in upstream if self.lakehouse.log(t) != state.logs[t.name]]
        if not unchanged or changed:
            # Membership may depend on tables that are not upstream, and whoever reads anew after
            # a refusal needs ledgers that fit the logs. (What this process has begun it still has.)
            self._reader.refresh()
        if unchanged and changed:
            now, then = inputs_of(self.state(), table), inputs_of(state, table)
            unchanged = all(now.get(key) == then.get(key) for key in keys)
        if not unchanged:
            raise InputsChangedError(
                f"Another run wrote {table.name} or what it is made of while"
                f" {described([k for k in keys if k]) or 'it'} was computed: run it again."
            )

    def _upstream_is_as_written(self, batch: Batch) -> bool:
        """Whether the files that a write read are, after it, those that the ledgers know: an
        identity follows from what was built, and not from who wrote it over. (A landing table's are
        landed objects: nothing is listed.)"""
        state = batch.state
        are_as_built = self._reader.are_as_built(batch.partitions, state.logs, state.ledgers)
        return batch.sound and state.membership.sound and are_as_built

    def _dates_rewritten(self, table: Table, batch: Batch) -> list[date]:
        """The dates of a landing table's batch with an object that was written after its listing.

        Its etag need not tell: an object may be gone while it is read and back afterwards.
        """
        if not batch.last_modified:
            return []
        _, now = list_days(self.lakehouse, table, batch.listings)
        then = batch.last_modified
        return [
            d for d, found in batch.listings.items() if any(now.get(o) != then[o] for o in found)
        ]

    def _replace(
        self, table: Table, days: Collection[date] | None, batch: Batch
    ) -> tuple[Batch, dict[str, str]]:
        """The batch that was written, and the etags of the data files that came of it."""

        def replaced(by: Batch) -> tuple[Batch, dict[str, str]]:
            return by, self.lakehouse.replace(table, by.frame, days, rows=by.rows, files=by.files)

        try:
            try:
                return replaced(batch)
            except EngineError:
                if table.zone != "landing":
                    raise
                # The engine failed on some object: read all of them by the exact parser.
                read = self._read_records(
                    table, batch.state, batch.listings, batch.last_modified, exactly=True
                )
                records = replace(batch, frame=read.frame, files=read.files, refused=read.refused)
                return replaced(self.compute(table, records=records))
        except (GoneError, PreconditionError) as error:
            raise InputsChangedError(str(error)) from None

    def compacted(self, table: Table, before: TableLog, token: str) -> None:
        """Keep the entries of partitions whose files compaction replaced; hold the write lock.

        before: the log from before the compaction; token: of its commit. Where somebody else
        committed meanwhile no entry is kept: what is theirs would count as built.
        """
        ledger = read_ledger(self.lakehouse.store, table)
        self.lakehouse.refresh([table])
        log = self.lakehouse.log(table)
        if log is None or log.table_id != before.table_id:
            return
        if log.version != before.version + 1 or token not in log.commits:
            return
        entries: dict[PartitionKey, LedgerEntry | None] = {}
        listed = self.lakehouse.data_files(table)
        for key in ledger.entries:
            entry = ledger.valid_entry(key, before)
            was = {f.path: listed[f.path].etag for f in before.of(key) if f.path in listed}
            if entry and entry.contents and entry.contents != contents_of(was):
                continue  # what was compacted is another's
            if entry and entry.files != files_of(log, key):
                etags = {f.path: listed[f.path].etag for f in log.of(key) if f.path in listed}
                entries[key] = replace(entry, files=files_of(log, key), contents=contents_of(etags))
        if entries:
            self._reader.ledgers[table.name] = record(
                self.lakehouse.store, table, ledger, log.table_id, entries
            )


def _entries(
    table: Table,
    keys: Sequence[PartitionKey],
    wanted: Mapping[PartitionKey, Inputs],
    batch: Batch,
    log: TableLog,
    added: Mapping[str, str],
    run_id: str,
) -> dict[PartitionKey, LedgerEntry | None]:
    entries: dict[PartitionKey, LedgerEntry | None] = {}
    refused = set(batch.refused)
    for key in keys:
        if key not in wanted:
            entries[key] = None
            continue
        files = log.of(key)
        objects = batch.listings.get(key, []) if key else []
        # The commit's own files: where another's stand there as well, it does not count.
        ours = {f.path: added[f.path] for f in files if f.path in added}
        entries[key] = LedgerEntry(
            wanted[key],
            fingerprint(ours),
            contents_of(ours),
            rows=sum(f.rows for f in files),
            objects=len(objects),
            newest_object=max((batch.last_modified[o] for o in objects), default=0.0),
            people=batch.state.membership.of(table.name, key)[0],
            refused=refused_keys(o.key for o in objects if o in refused),
            run_id=run_id,
        )
    return entries


def _inputs(table: Table, batch: Batch, sound: bool) -> dict[PartitionKey, Inputs]:
    """What the batch was made from, by partition.

    sound: the upstream tables' files were as they were written. Else the entry says so, and never
    matches.
    """
    if table.zone == "landing":
        limits = batch.state.limits
        return {day: landing_inputs(o, limits) for day, o in batch.listings.items() if o}
    wanted = inputs_of(batch.state, table)
    if not sound:
        wanted = {key: {**inputs, "upstream files": "others"} for key, inputs in wanted.items()}
    # Membership follows from the landing tables. Where a table of people was behind these, the
    # rows do not: the entry says so, and never matches.
    for name in tables_of_people(table):
        if out_of_date(batch.state, TABLES[name]):
            behind = f"behind {batch.state.identity(name, None)}"
            return {key: {**inputs, name: behind} for key, inputs in wanted.items()}
    return wanted


def _assert_nothing_is_forgotten(
    table: Table,
    state: LakeState,
    listings: Listings,
    last_modified: Mapping[LandedObject, float],
    refused: Collection[LandedObject],
) -> None:
    """StediError where an object that S3 refuses may have been read for the rows that are there.

    Without it a withdrawal would be gone, and who withdrew would be back. It may have been where
    the date's entry does not say that it was refused, or that everything was older.
    """
    log, ledger = state.logs[table.name], state.ledgers[table.name]
    for day, objects in listings.items():
        entry = ledger.valid_entry(day, log)
        for landed_object in set(refused).intersection(objects) if log and log.of(day) else ():
            is_new = entry and last_modified[landed_object] > entry.newest_object
            was_refused = entry and entry.lacks(landed_object.key)
            if not is_new and not was_refused:
                raise StediError(
                    f"S3 refuses to give {shown_key(landed_object.key)}, which was read before and"
                    " may say who withdrew: the records of its date stay as they are. Restore the"
                    " object, or give the keys access to it."
                )


def _text_bytes(landed_object: LandedObject) -> int:
    """About how much text an object holds."""
    return landed_object.size * (_GZIP_RATIO if landed_object.is_gzipped else 1)
