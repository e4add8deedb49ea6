"""What an order to forget somebody needs to be finished, if it is cut short or partly refused.

`stedi forget` rewrites the records that name a person's devices. Of readings that could not be
rewritten at the same time nobody would know any more that they are the person's. So the devices'
numbers are kept under the person's subject_id, from before the first change until all is done.
"""

from collections.abc import Collection
from datetime import timedelta

from stedi_assets.errors import StediError
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.privacy.vacuum import erase_versions
from stedi_assets.privacy.whose_record import Person

_FOLDER = "_stedi/unfinished_forget/"


def _path(person: Person) -> str:
    return f"{_FOLDER}{person.subject_id}.json"


def begin(store: ObjectStore, person: Person, devices: Collection[str]) -> None:
    """Keep the devices that records of a person who is being forgotten name, or named."""
    store.put_json(_path(person), {"devices": sorted(devices)})


def devices_of_unfinished(store: ObjectStore, person: Person) -> frozenset[str] | None:
    """The devices of a person whom an earlier order was to forget; None where none is unfinished.

    None are known where what is kept is damaged.
    """
    kept = store.get(_path(person))
    if kept is None:
        return None
    try:
        return frozenset(map(str, parse_json(kept[0])["devices"]))
    except (ValueError, TypeError, KeyError):
        return frozenset()


def end(store: ObjectStore, person: Person) -> list[str]:
    """Delete what was kept, in all its versions: the order is done. A problem, in a line."""
    path = _path(person)
    try:
        store.delete([path])
        erase_versions(store, path, timedelta(0))
    except StediError as error:
        return [str(error)]
    return []
