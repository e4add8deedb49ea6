"""What an order to forget somebody needs to be finished, if it is cut short or partly refused.

`stedi forget` rewrites the records that name a person's devices. Of readings that could not be
rewritten at the same time nobody would know any more that they are the person's. So the devices'
numbers are kept under the person's subject_id, from before the first change until all is done.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from stedi_assets.errors import StediError
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.client import GoneError, PreconditionError
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.privacy.vacuum import delete_for_good, erase_versions
from stedi_assets.privacy.whose_record import Person

_FOLDER = "_stedi/unfinished_forget/"
_ATTEMPTS = 5


@dataclass(frozen=True)
class Unfinished:
    """What is kept of an order; none of the devices are known where that is damaged."""

    devices: frozenset[str]
    etag: str


def _path(person: Person) -> str:
    return f"{_FOLDER}{person.subject_id}.json"


def begin(store: ObjectStore, person: Person, devices: Collection[str]) -> Unfinished:
    """Keep the devices that records of a person who is being forgotten name, or named.

    Those that another order about the person keeps stay with them: it may not end well.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        kept = read(store, person)
        whole = frozenset(devices) | (kept.devices if kept else frozenset())
        body = json.dumps({"devices": sorted(whole)}).encode()
        condition = {"IfMatch": kept.etag} if kept else {"IfNoneMatch": "*"}
        try:
            return Unfinished(whole, store.put(_path(person), body, **condition))
        except (PreconditionError, GoneError):  # another was first
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def read(store: ObjectStore, person: Person) -> Unfinished | None:
    """What an earlier order about a person left; None where none is unfinished."""
    kept = store.get(_path(person))
    if kept is None:
        return None
    body, etag = kept
    try:
        devices: Any = parse_json(body)["devices"]
    except (ValueError, TypeError, KeyError):
        devices = None
    is_sound = isinstance(devices, list) and all(isinstance(d, str) and d for d in devices)
    return Unfinished(frozenset(devices if is_sound else ()), etag)


def end(store: ObjectStore, person: Person, order: Unfinished) -> list[str]:
    """Delete what was kept, in all its versions: the order is done. A problem, in a line.

    The current version goes last: whatever comes between leaves an order that is found again.
    """
    path = _path(person)
    try:
        if problems := overtaken(store, person, order):
            return problems
        erase_versions(store, path, timedelta(0))
        delete_for_good(store, path)
    except StediError as error:
        return [str(error)]
    return []


def overtaken(store: ObjectStore, person: Person, order: Unfinished) -> list[str]:
    """A problem, in a line, where another order about the person was given since one began."""
    if read(store, person) in (order, None):
        return []
    return ["There is another order about this person: repeat this when that has ended."]
