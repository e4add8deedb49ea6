"""The ledger: of every landing partition, from which objects it was built, and into which files.

`_stedi/ledger/<entity>/<ingest date>.json`. The objects are from the listing taken before
reading. An entry whose files are not the table's files of that date does not count: another
write came after it, or it came before a crash.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

from stedi_assets.lake import Lake, TableLog
from stedi_assets.landed import LandedObject


@dataclass(frozen=True)
class Entry:
    """What one landing partition was built from, and what came of it."""

    objects: tuple[LandedObject, ...]
    files: frozenset[str]
    records: int
    malformed: int


def _path(entity: str, day: date) -> str:
    return f"_stedi/ledger/{entity}/{day}.json"


def record(lake: Lake, entity: str, day: date, objects: list[LandedObject], log: TableLog) -> None:
    """Write the entry of a partition that was just written."""
    files = log.of(day, day)
    entry = {
        "objects": [[o.key, o.etag, o.size] for o in sorted(objects)],
        "files": sorted(f.path for f in files),
        "records": sum(f.rows for f in files),
        "malformed": sum(f.malformed for f in files),
    }
    lake.put_json(_path(entity, day), entry)


def entry(lake: Lake, entity: str, day: date) -> Entry | None:
    """The entry of a partition, or None where it was never built."""
    found: dict[str, Any] | None = lake.get_json(_path(entity, day))
    if found is None:
        return None
    return Entry(
        tuple(LandedObject(*values) for values in found["objects"]),
        frozenset(found["files"]),
        found["records"],
        found["malformed"],
    )


def entries(lake: Lake, wanted: list[tuple[str, date]]) -> dict[tuple[str, date], Entry]:
    """The entries of several partitions, those that are there."""
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda one: entry(lake, *one), wanted)
    return {key: one for key, one in zip(wanted, found, strict=True) if one is not None}


def days(lake: Lake, entity: str) -> list[date]:
    """The ingest dates that have an entry."""
    folder = f"_stedi/ledger/{entity}/"
    names = (found["Key"][len(folder) :] for found in lake.objects(folder))
    return [date.fromisoformat(name.removesuffix(".json")) for name in names]
