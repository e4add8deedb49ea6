"""The ledger: of every partition of every table, what it was built from and which files that made.

One JSON object a table, `_stedi/ledger/<table>.json`. An entry holds only what was true when its
inputs were read: it is written after the commit, and counts only while the partition's files are
those of that commit. So a crash, a lost entry, a write by hand or a table that was rolled back can
only make a partition look out of date (docs/decisions/0003).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from functools import cached_property, lru_cache
from typing import Any

from stedi_assets.errors import StediError
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.client import GoneError, NotModifiedError, PreconditionError
from stedi_assets.lakehouse.delta_log import TableLog
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.lakehouse.tables import ListedFile
from stedi_assets.tables.schemas import Table

# A partition of a table: its ingest date, or None for the whole of an unpartitioned table.
PartitionKey = date | None
LEDGER_FOLDER = "_stedi/ledger/"
_WRITE_ATTEMPTS = 20


def fingerprint(values: Iterable[Any]) -> str:
    """The same for the same values in any order: 16 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(json.dumps(sorted(values)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LedgerEntry:
    """What one partition was built from.

    inputs: what was read -> its identity; files: of the data files that came of it; contents: of
    what S3 holds in them; the rest is for people and for the sensor's debounce.
    """

    inputs: Mapping[str, str]
    files: str
    contents: str = ""  # "" where it is not known: an earlier release wrote the entry
    rows: int = 0
    objects: int = 0  # landed objects that were read, of a landing table
    newest_object: float = 0.0  # when the last of them landed, seconds since the epoch
    people: int = 0  # that membership has in it; of step_trainer_trusted devices
    run_id: str = ""
    # The landed objects that S3 did not give, by `refused_keys`: rows change without the objects.
    refused: str = ""

    @cached_property
    def identity(self) -> str:
        """The partition's data version: it follows from what was read, so compaction keeps it."""
        refused = [("refused", self.refused)] if self.refused else []
        return fingerprint([*self.inputs.items(), *refused])

    def lacks(self, key: str) -> bool:
        """Whether S3 did not give the landed object of a key when the partition was built."""
        return refused_keys([key]) in self.refused.split()


def refused_keys(keys: Iterable[str]) -> str:
    """What an entry keeps of the keys of refused objects, which may hold addresses: hashes."""
    return " ".join(sorted(fingerprint([key]) for key in keys))


@dataclass(frozen=True)
class Ledger:
    """The entries of one table."""

    table_id: str = ""  # of the Delta table: entries of a recreated table do not count
    entries: Mapping[PartitionKey, LedgerEntry] = field(default_factory=dict)
    etag: str | None = None  # of the object; None where there is none

    def valid_entry(self, key: PartitionKey, log: TableLog | None) -> LedgerEntry | None:
        """The entry of a partition, where its files are those that the log says."""
        entry = self.entries.get(key)
        if entry is None or log is None or log.table_id != self.table_id:
            return None
        return entry if entry.files == files_of(log, key) else None


def files_of(log: TableLog | None, key: PartitionKey) -> str:
    """The identity of a partition's data files (of all files, where the key is None)."""
    paths = tuple(file.path for file in log.of(key)) if log else ()
    return _identity_of_a_date(paths) if key else fingerprint(paths)


@lru_cache(1 << 16)
def _identity_of_a_date(paths: tuple[str, ...]) -> str:
    # Asked for again at every look at a lake: hashing is most of a look's time. (Not of whole
    # tables, of which each version would be kept.)
    return fingerprint(paths)


def contents_of(etags: Mapping[str, str]) -> str:
    """The identity of what data files hold, from their etags by their paths."""
    return fingerprint(etags.items())


def not_as_written(
    log: TableLog,
    ledger: Ledger,
    listed: Mapping[str, ListedFile],
    days: Iterable[date] | None = None,
) -> frozenset[str]:
    """The data files of a table that S3 did not list with the size that the log says, and those
    of partitions of which some file's etag is another than when it was written.

    days: the ingest dates that were listed; without them the whole table was.
    """
    keys: Iterable[PartitionKey] = ledger.entries if days is None else set(days)
    files = log.files if days is None else [file for day in set(days) for file in log.of(day)]
    wrong = {f.path for f in files if f.path not in listed or listed[f.path].bytes != f.bytes}
    for key in keys:
        entry = ledger.valid_entry(key, log)
        paths = [file.path for file in log.of(key)]
        if not entry or not entry.contents or not wrong.isdisjoint(paths):
            continue
        if entry.contents != contents_of({path: listed[path].etag for path in paths}):
            wrong.update(paths)
    return frozenset(wrong)


def not_as_built(
    log: TableLog,
    ledger: Ledger,
    listed: Mapping[str, ListedFile],
    days: Iterable[date] | None = None,
) -> frozenset[str]:
    """As `not_as_written`, and those that no entry knows: what is in them nobody can say.

    For what is made of them; a partition without an entry is out of date for another reason.
    """
    keys = set(log.by_date if days is None else days)
    unknown = {f.path for k in keys if not ledger.valid_entry(k, log) for f in log.of(k)}
    return not_as_written(log, ledger, listed, days) | unknown


def _path(table: Table) -> str:
    return f"{LEDGER_FOLDER}{table.name}.json"


def read_ledger(store: ObjectStore, table: Table, known: Ledger | None = None) -> Ledger:
    """A table's ledger; an empty one where there is none or it cannot be understood.

    known: as it was last read or written here; S3 does not send it again where it still is so.
    """
    known = known or Ledger()
    try:
        existing = store.get(_path(table), known.etag)
    except NotModifiedError:
        return known
    if existing is None:
        return Ledger()
    try:
        document = parse_json(existing[0])
        entries = {
            None if key == "all" else date.fromisoformat(key): _entry(entry)
            for key, entry in document["entries"].items()
        }
        return Ledger(document["table_id"], entries, existing[1])
    except (ValueError, TypeError, KeyError, AttributeError):
        return Ledger(etag=existing[1])  # everything it says can be built again


def _kept(entry: LedgerEntry) -> dict[str, Any]:
    # Not `asdict`: it copies deeply, and a ledger is written as a whole.
    return {field.name: getattr(entry, field.name) for field in fields(entry)}


def _entry(kept: Mapping[str, Any]) -> LedgerEntry:
    entry = LedgerEntry(**kept)
    return replace(
        entry,
        inputs=dict(entry.inputs),
        rows=int(entry.rows),
        people=int(entry.people),
        objects=int(entry.objects),
        newest_object=float(entry.newest_object),
    )


def record(
    store: ObjectStore,
    table: Table,
    ledger: Ledger,
    table_id: str,
    entries: Mapping[PartitionKey, LedgerEntry | None],
) -> Ledger:
    """Write entries of a table (None: take one out), and keep those of its other partitions.

    ledger: as it was last read; where another wrote meanwhile it is read again. What was written.
    """
    for _ in range(_WRITE_ATTEMPTS):
        kept = ledger.entries if ledger.table_id == table_id else {}
        merged = {key: entry for key, entry in {**kept, **entries}.items() if entry is not None}
        body = {
            "table_id": table_id,
            "entries": {str(key or "all"): _kept(entry) for key, entry in merged.items()},
        }
        condition = {"IfMatch": ledger.etag} if ledger.etag else {"IfNoneMatch": "*"}
        try:
            data = json.dumps(body, separators=(",", ":")).encode()
            etag = store.put(_path(table), data, **condition)
        except (PreconditionError, GoneError):  # gone: AWS's answer where there is no object
            ledger = read_ledger(store, table)
        else:
            return replace(ledger, table_id=table_id, entries=merged, etag=etag)
    raise StediError(
        f"{table.name} was written, its ledger was not: others write that all the time. `stedi"
        " catch-up` builds again what has no entry."
    )
