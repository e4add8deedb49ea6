"""The ledger: of every landing partition, from which objects it was built, and into which files.

An entry is `_stedi/ledger/<entity>/<ingest date>/<objects>-<files>.json`: its name holds the
fingerprints of both, so that one listing tells whether a thousand partitions are as S3 has them.
The objects are from the listing taken before reading. An entry whose files are not the table's
files of that date does not count: another write came after it, or it came before a crash.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import date
from typing import Any

from stedi_assets.lakehouse.object_store import DataFile, Lake
from stedi_assets.landing.reader import LandedObject

Partition = tuple[str, date]  # entity and ingest date


@dataclass(frozen=True)
class Built:
    """Fingerprints of the objects that a partition was built from, and of the files it became."""

    objects: str
    files: str

    @classmethod
    def of(cls, objects: Iterable[LandedObject], files: Iterable[str]) -> "Built":
        """From the objects as listed, and the paths of the data files."""
        return cls(fingerprint(astuple(o) for o in objects), fingerprint(files))


@dataclass(frozen=True)
class Entry:
    """What one landing partition was built from, and what came of it."""

    objects: tuple[LandedObject, ...]
    files: frozenset[str]
    records: int
    malformed: int


def fingerprint(values: Iterable[Any]) -> str:
    """The same for the same values in any order."""
    return hashlib.sha256(json.dumps(sorted(values)).encode()).hexdigest()[:16]


def _folder(entity: str, day: date | None = None) -> str:
    return f"_stedi/ledger/{entity}/" + (f"{day}/" if day else "")


def _path(partition: Partition, built: Built) -> str:
    return f"{_folder(*partition)}{built.objects}-{built.files}.json"


def built(lake: Lake, entity: str, day: date | None = None) -> dict[Partition, set[Built]]:
    """What the ledger's entries of an entity, or of one of its partitions, are called."""
    found: dict[Partition, set[Built]] = {}
    for one in lake.objects(_folder(entity, day)):
        *_, place, name = one["Key"].split("/")
        objects, _, files = name.removesuffix(".json").partition("-")
        found.setdefault((entity, date.fromisoformat(place)), set()).add(Built(objects, files))
    return found


def record(
    lake: Lake, entity: str, day: date, objects: list[LandedObject], files: list[DataFile]
) -> None:
    """Write the entry of a partition that was just written, in the place of those before it."""
    before = [found["Key"] for found in lake.objects(_folder(entity, day))]
    now = Built.of(objects, [f.path for f in files])
    path = _path((entity, day), now)
    entry = {
        "objects": [astuple(o) for o in sorted(objects)],
        "files": sorted(f.path for f in files),
        "records": sum(f.rows for f in files),
        "malformed": sum(f.malformed for f in files),
    }
    lake.put_json(path, entry)
    lake.delete([old for old in before if old != path])


def entry(lake: Lake, partition: Partition, built: Built) -> Entry | None:
    """The entry of a partition under its name; None where another has taken its place."""
    found: dict[str, Any] | None = lake.get_json(_path(partition, built))
    if found is None:
        return None
    return Entry(
        tuple(LandedObject(*values) for values in found["objects"]),
        frozenset(found["files"]),
        found["records"],
        found["malformed"],
    )
