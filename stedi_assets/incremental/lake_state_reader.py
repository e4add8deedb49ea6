"""Reads the lake's state: logs, ledgers, membership, and data files that are lost."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from stedi_assets.errors import StediError
from stedi_assets.incremental.attempts import Attempt, read_attempts
from stedi_assets.incremental.ledger import Ledger, not_as_built, not_as_written, read_ledger
from stedi_assets.incremental.membership import (
    Membership,
    compute_membership,
    keep_membership,
    membership_key,
    read_membership,
)
from stedi_assets.incremental.partition_inputs import LakeState
from stedi_assets.incremental.read_rows import Partitions
from stedi_assets.incremental.rollups import ROLLUP_TABLES
from stedi_assets.lakehouse.delta_commit import HINT, mend_hint
from stedi_assets.lakehouse.delta_log import TableLog
from stedi_assets.lakehouse.lake_settings import salt_identity
from stedi_assets.lakehouse.tables import THREADS, Lakehouse, ListedFile
from stedi_assets.tables.schemas import LANDING_TABLES, TABLES, Table

_NO_MEMBERSHIP = Membership("", {})
_ALL = tuple(TABLES.values())


@dataclass
class LakeStateReader:
    """Keeps what was last read of the lake's state.

    ledgers: by table, as last read; attempts: as of `read_attempts`. A writer puts in its own.
    """

    lakehouse: Lakehouse
    ledgers: dict[str, Ledger] = field(default_factory=dict, init=False)
    attempts: list[Attempt] = field(default_factory=list, init=False)
    _membership: Membership = field(default=_NO_MEMBERSHIP, init=False)
    # Data files that logs name and S3 did not list, or not as they were written, by table.
    _missing: dict[str, frozenset[str]] = field(default_factory=dict, init=False)
    # Tables that are lost, and of which data files are left.
    _left_over: set[str] = field(default_factory=set, init=False)

    def refresh(self, *, verify_files: bool = False) -> None:
        """Read logs, ledgers and attempts anew, at the same time: somebody else may have written.

        verify_files: also list the tables' data files, to find those that are gone, and see whether
        others can open the tables.
        """
        store = self.lakehouse.store
        store.check()
        if not self._membership.sound:
            self._membership = _NO_MEMBERSHIP
        with ThreadPoolExecutor(2 * THREADS) as pool:
            tables = [*_ALL, *ROLLUP_TABLES]
            logs = pool.submit(self.lakehouse.refresh, tables)
            attempts = pool.submit(read_attempts, store)
            ledgers = pool.map(lambda t: read_ledger(store, t, self.ledgers.get(t.name)), _ALL)
            self.ledgers = dict(zip(TABLES, ledgers, strict=True))
            self.attempts = attempts.result()
            logs.result()
            if verify_files or any(self._missing.values()):  # they may have been put back
                # After the logs were read: what is committed in between is listed, too.
                listed = pool.map(self.lakehouse.data_files, tables)
                self._verify(dict(zip(tables, listed, strict=True)))

    def _verify(self, listed: Mapping[Table, Mapping[str, ListedFile]]) -> None:
        """See which tables' data files, as they are listed, are not as they were written, and
        whether others can open the tables."""
        hinted = dict[Table, TableLog]()
        for table, files in listed.items():
            log = self.lakehouse.log(table)
            if files and log is None:
                self._left_over.add(table.name)
            if log is not None:
                self._left_over.discard(table.name)
                if HINT in files or log.base:
                    hinted[table] = log
                if table.name in TABLES:  # roll-ups are verified when they are read
                    self._missing[table.name] = not_as_written(log, self.ledgers[table.name], files)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda t: mend_hint(self.lakehouse.store, t, hinted[t]), hinted))

    def state(self, *, with_membership: bool = True) -> LakeState:
        """As of `Pipeline.state`."""
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
        if not any(logs[table.name] for table in LANDING_TABLES):
            return Membership(key, {})  # nothing has landed: there are no members
        if self._membership.key != key:
            kept = read_membership(self.lakehouse, key)
            self._membership = kept or self._computed_membership(logs)
        return self._membership

    def _computed_membership(self, logs: dict[str, TableLog | None]) -> Membership:
        """Compute the membership; kept where the files that it follows from are as written."""
        scope = self.lakehouse.store.settings.consent_scope
        try:
            membership, read = compute_membership(self.lakehouse, logs, self.ledgers, scope)
        except StediError:  # perhaps a roll-up's file went after it was listed: it is listed again
            membership, read = compute_membership(self.lakehouse, logs, self.ledgers, scope)
        if membership.sound and self.are_as_built(read, logs, self.ledgers):
            keep_membership(self.lakehouse, membership)
            return membership
        # Now, so that they are out of date in this look already.
        self._verify({table: self.lakehouse.data_files(table) for table in LANDING_TABLES})
        return replace(membership, sound=False)

    def are_as_built(
        self,
        partitions: Partitions,
        logs: Mapping[str, TableLog | None],
        ledgers: Mapping[str, Ledger],
    ) -> bool:
        """Whether the data files of partitions that were read are those that the ledgers know.

        logs, ledgers: as they were when these were read.
        """

        def are(name: str) -> bool:
            log, keys = logs[name], partitions[name]
            if log is None:
                return True
            days = None if None in keys else {day for day in keys if day and log.of(day)}
            listed = self.lakehouse.files_as_read(TABLES[name], days)
            return not not_as_built(log, ledgers[name], listed, days)

        with ThreadPoolExecutor(THREADS) as pool:
            return all(pool.map(are, partitions))
