"""Attempts: which partitions somebody began to build and did not finish.

One JSON object a table, `_stedi/attempts/<table>.json`, put before its inputs are read and deleted
after its ledger was written: what is left is of a process that died, of a build that failed, or of
a run that is in progress. It decides about nothing but when partitions are built, and which are
emptied until then (docs/decisions/0009): what is out of date follows from the ledgers, and an
attempt that is lost costs a try.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date

from stedi_assets.errors import StediError
from stedi_assets.incremental.ledger import PartitionKey
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.tables.schemas import TABLES

ATTEMPTS_FOLDER = "_stedi/attempts/"
_LARGEST = 2**53  # a number that every reader of JSON knows exactly


@dataclass(frozen=True)
class Attempt:
    """Partitions of a table that were begun together and not finished.

    number: greater than those of earlier attempts; tries: how often any of these was begun.
    """

    table: str
    number: int
    tries: int
    keys: frozenset[PartitionKey]

    @property
    def halves(self) -> list[frozenset[PartitionKey]]:
        """Its partitions in two parts, by date: where the process dies on one, the other is built.

        (Not each by itself: of a range that somebody only interrupted there may be hundreds.)
        """
        keys = sorted(self.keys, key=lambda key: key or date.min)
        middle = (len(keys) + 1) // 2
        return [frozenset(part) for part in (keys[:middle], keys[middle:]) if part]


def read_attempts(store: ObjectStore) -> list[Attempt]:
    """The attempts of all tables, longest ago first.

    What S3 does not give or cannot be understood is left out: only the order follows from it.
    """
    found: list[Attempt] = []
    with suppress(StediError):
        for entry in store.objects(ATTEMPTS_FOLDER):
            name = entry["Key"].removeprefix(ATTEMPTS_FOLDER).removesuffix(".json")
            with suppress(StediError, ValueError, TypeError, OverflowError):
                existing = store.get(entry["Key"]) if name in TABLES else None
                for number, tries, keys in parse_json(existing[0]) if existing else ():
                    attempt = Attempt(name, int(number), int(tries), frozenset(map(_key, keys)))
                    if attempt.keys and 0 <= attempt.number + attempt.tries < _LARGEST:
                        found.append(attempt)
    return sorted(found, key=lambda attempt: attempt.number)


def begin(
    store: ObjectStore, attempts: Sequence[Attempt], table: str, keys: Iterable[PartitionKey]
) -> list[Attempt]:
    """Keep that partitions of a table are begun; all attempts, these being the last."""
    begun = frozenset(keys)
    of_these = [a.tries for a in attempts if a.table == table and a.keys & begun]
    tries = max(of_these, default=0)
    number = max((attempt.number for attempt in attempts), default=0)
    left = [*_without(attempts, table, begun), Attempt(table, number + 1, tries + 1, begun)]
    return _kept(store, left, table)


def end(
    store: ObjectStore, attempts: Sequence[Attempt], table: str, keys: Iterable[PartitionKey]
) -> list[Attempt]:
    """Keep that partitions of a table are built; the attempts that are left."""
    left = _without(attempts, table, frozenset(keys))
    return left if left == list(attempts) else _kept(store, left, table)


def _without(
    attempts: Iterable[Attempt], table: str, keys: frozenset[PartitionKey]
) -> list[Attempt]:
    """The attempts without partitions of a table."""
    left = [replace(a, keys=a.keys - keys) if a.table == table else a for a in attempts]
    return [attempt for attempt in left if attempt.keys]


def _kept(store: ObjectStore, attempts: list[Attempt], table: str) -> list[Attempt]:
    """The attempts, those of a table kept; where S3 does not take them only the order is lost."""
    path = f"{ATTEMPTS_FOLDER}{table}.json"
    kept = [
        [attempt.number, attempt.tries, sorted(str(key or "all") for key in attempt.keys)]
        for attempt in attempts
        if attempt.table == table
    ]
    with suppress(StediError):
        if kept:
            store.put_json(path, kept)
        else:
            store.delete([path])
    return attempts


def _key(text: str) -> PartitionKey:
    return None if text == "all" else date.fromisoformat(text)
