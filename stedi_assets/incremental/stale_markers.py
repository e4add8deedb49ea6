"""Marks in the lake that a table's partition has to be built again, whoever saw it first.

A mark is an empty object `_stedi/stale/<table>/<ingest date or all>/<token>`. It is put before
the change that makes the partition stale can be seen, and taken away when the partition was
written by a step that saw the mark before it read its inputs. A crash in between leaves the mark,
so nothing is lost; a mark too many costs a run that changes nothing.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from stedi_assets.lakehouse.object_store import Lake

_FOLDER = "_stedi/stale/"


@dataclass(frozen=True, order=True)
class Mark:
    """A partition of a table that is stale; no date: the whole unpartitioned table."""

    table: str
    ingest_date: date | None
    path: str


def mark(lake: Lake, table: str, dates: Iterable[date | None]) -> None:
    """Mark partitions of a table stale (None: all of an unpartitioned table)."""
    for day in sorted(set(dates), key=str):
        lake.put(f"{_FOLDER}{table}/{day or 'all'}/{uuid.uuid4().hex}", b"")


def marks(lake: Lake, table: str | None = None) -> list[Mark]:
    """The marks that are there, of one table or of all."""
    found = lake.objects(f"{_FOLDER}{table}/" if table else _FOLDER)
    return [_mark(entry["Key"]) for entry in found]


def _mark(path: str) -> Mark:
    table, day, _ = path.removeprefix(_FOLDER).split("/")
    return Mark(table, None if day == "all" else date.fromisoformat(day), path)


def clear(lake: Lake, seen: Iterable[Mark]) -> None:
    """Take marks away."""
    lake.delete([one.path for one in seen])
