"""Reads the lake's state: logs, ledgers, membership, and data files that are lost."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from stedi_assets.errors import StediError
from stedi_assets.incremental.ledger import Ledger, contents_of, read_ledger
from stedi_assets.incremental.membership import (
    Membership,
    compute_membership,
    membership_key,
    read_membership,
)
from stedi_assets.incremental.partition_inputs import LakeState
from stedi_assets.incremental.rollups import ROLLUP_TABLES, drop_rollups
from stedi_assets.lakehouse.delta_commit import HINT, mend_hint
from stedi_assets.lakehouse.delta_log import TableLog
from stedi_assets.lakehouse.lake_settings import salt_identity
from stedi_assets.lakehouse.tables import THREADS, Lakehouse, ListedFile
from stedi_assets.tables.schemas import TABLES, Table

_NO_MEMBERSHIP = Membership("", {})
_ALL = tuple(TABLES.values())


@dataclass
class LakeStateReader:
    """Keeps what was last read of the lake's state.

    ledgers: by table, as last read; a writer puts in what it wrote.
    """

    lakehouse: Lakehouse
    ledgers: dict[str, Ledger] = field(default_factory=dict, init=False)
    _membership: Membership = field(default=_NO_MEMBERSHIP, init=False)
    # Data files that logs name and S3 did not list, or not as they were written, by table.
    _missing: dict[str, frozenset[str]] = field(default_factory=dict, init=False)
    # Tables that are lost, and of which data files are left.
    _left_over: set[str] = field(default_factory=set, init=False)

    def refresh(self, *, verify_files: bool = False) -> None:
        """Read logs and ledgers anew, all at the same time: somebody else may have written.

        verify_files: also list the tables' data files, to find those that are gone, and see whether
        others can open the tables.
        """
        store = self.lakehouse.store
        store.check()
        with ThreadPoolExecutor(2 * THREADS) as pool:
            tables = [*_ALL, *ROLLUP_TABLES]
            list_files = self.lakehouse.data_files
            listed = pool.map(lambda t: list_files(t) if verify_files else None, tables)
            logs = pool.submit(self.lakehouse.refresh, tables)
            ledgers = pool.map(lambda t: read_ledger(store, t, self.ledgers.get(t.name)), _ALL)
            self.ledgers = dict(zip(TABLES, ledgers, strict=True))
            logs.result()
            hinted = dict[Table, TableLog]()
            for table, files in zip(tables, listed, strict=True):
                log = self.lakehouse.log(table)
                if files and log is None:
                    self._left_over.add(table.name)
                if files is not None and log is not None:
                    self._left_over.discard(table.name)
                    if HINT in files or log.base:
                        hinted[table] = log
                    ledger = self.ledgers.get(table.name, Ledger())
                    self._missing[table.name] = not_as_written(log, ledger, files)
            list(pool.map(lambda table: mend_hint(store, table, hinted[table]), hinted))
        lost = [self._missing.pop(table.name, None) for table in ROLLUP_TABLES]
        if any(lost):
            drop_rollups(self.lakehouse)

    def state(self, *, with_membership: bool = True) -> LakeState:
        """What the lake holds, as it was last read or written here.

        Without membership (it needs the engine where it is not kept): of landing tables only.
        """
        if not self.ledgers:
            self.refresh()
        logs = {name: self.lakehouse.log(table) for name, table in TABLES.items()}
        membership = self._membership_of(logs) if with_membership else _NO_MEMBERSHIP
        lost = {
            name: frozenset(
                file.ingest_date if TABLES[name].partitioned else None
                for file in (log.files if log else ())
                if file.path in self._missing[name]
            )
            for name, log in logs.items()
            if self._missing.get(name)
        }
        lost |= {n: frozenset([None]) for n in logs if logs[n] is None and n in self._left_over}
        settings = self.lakehouse.store.settings
        limits = settings.max_object_bytes, settings.max_record_bytes
        salt = salt_identity(settings)
        return LakeState(logs, dict(self.ledgers), membership, salt, limits, lost)

    def _membership_of(self, logs: dict[str, TableLog | None]) -> Membership:
        key = membership_key(logs, self.lakehouse.store.settings.consent_scope)
        if not any(logs[name] for name in logs if name.endswith("_landing")):
            return Membership(key, {})  # nothing has landed: there are no members
        if self._membership.key != key:
            kept = read_membership(self.lakehouse, key)
            self._membership = kept or self._computed_membership(logs)
        return self._membership

    def _computed_membership(self, logs: dict[str, TableLog | None]) -> Membership:
        scope = self.lakehouse.store.settings.consent_scope
        try:
            return compute_membership(self.lakehouse, logs, scope)
        except StediError:  # perhaps a file of a roll-up is lost: rebuild all of them
            drop_rollups(self.lakehouse)
            return compute_membership(self.lakehouse, logs, scope)


def not_as_written(
    log: TableLog, ledger: Ledger, listed: Mapping[str, ListedFile]
) -> frozenset[str]:
    """The data files of a table that S3 did not list with the size that the log says, and those
    of partitions of which some file's etag is another than when it was written."""
    wrong = {f.path for f in log.files if f.path not in listed or listed[f.path].bytes != f.bytes}
    for key in ledger.entries:
        entry = ledger.valid_entry(key, log)
        paths = [file.path for file in log.of(key)]
        if not entry or not entry.contents or not wrong.isdisjoint(paths):
            continue
        if entry.contents != contents_of({path: listed[path].etag for path in paths}):
            wrong.update(paths)
    return frozenset(wrong)
