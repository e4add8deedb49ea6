"""What has landed: one listing of S3 for every range of ingest dates and entity."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from stedi_assets.lakehouse.object_store import ObjectStore, folders_between
from stedi_assets.landing.layout import LandedObject, is_data, parse_date
from stedi_assets.tables.schemas import ENTITIES

OpenRange = tuple[date | None, date | None]  # first and last, both included; None is open
EVERYTHING: tuple[OpenRange, ...] = ((None, None),)
LandingPartition = tuple[str, date]  # entity and ingest date


@dataclass(frozen=True)
class LandingListing:
    """The landed objects of some ranges of ingest dates, as S3 lists them."""

    ranges: tuple[OpenRange, ...] = EVERYTHING
    objects: dict[LandingPartition, tuple[LandedObject, ...]] = field(default_factory=dict)
    # Keys outside an `ingest_date=` folder, or with an invalid, too early or future date.
    misplaced: tuple[str, ...] = ()
    # When each object landed, by S3's clock, in whole seconds.
    last_modified: dict[LandedObject, datetime] = field(default_factory=dict)
    # Of which S3 gives an object that it refused; where it was asked for them again.
    given_again: frozenset[LandingPartition] = frozenset()

    def covers(self, day: date) -> bool:
        """Whether the listing says of an ingest date what landed on it."""
        return any(
            (first is None or first <= day) and (last is None or day <= last)
            for first, last in self.ranges
        )


def list_landing(
    store: ObjectStore,
    ranges: Iterable[OpenRange] = EVERYTHING,
    entities: Iterable[str] = tuple(ENTITIES),
) -> LandingListing:
    """List the landed objects with data of some entities on some ranges of ingest dates."""
    entities, ranges = list(entities), tuple(ranges)
    listing = LandingListing(ranges)
    objects_by_partition: dict[LandingPartition, set[LandedObject]] = {}
    misplaced: set[str] = set()
    with ThreadPoolExecutor(len(ENTITIES)) as pool:  # S3 lists one while we read the other
        listed = pool.map(
            lambda name: [entry for span in ranges for entry in _entries(store, name, span)],
            entities,
        )
        for entity, entries in zip(entities, listed, strict=True):
            for day, entry in entries:
                if day is None:
                    misplaced.add(entry["Key"])
                    continue
                landed_object = LandedObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"])
                objects_by_partition.setdefault((entity, day), set()).add(landed_object)
                listing.last_modified[landed_object] = entry["LastModified"]
    listing.objects.update(
        (key, tuple(sorted(objects))) for key, objects in objects_by_partition.items()
    )
    return LandingListing(ranges, listing.objects, tuple(sorted(misplaced)), listing.last_modified)


def _entries(
    store: ObjectStore, entity: str, span: OpenRange
) -> Iterable[tuple[date | None, dict[str, Any]]]:
    """An entity's objects with data in a range, with their ingest date, None where misplaced."""
    folder = f"landing/{entity}/"
    after, until = folders_between(f"{folder}ingest_date=", *span)
    for entry in store.objects(folder, after=after, until=until):
        place, _, name = entry["Key"][len(folder) :].partition("/")
        if is_data(name or place):
            yield (landed_day(store, place) if name else None), entry


def landed_day(store: ObjectStore, folder: str) -> date | None:
    """The ingest date of a folder's name, or None where objects in it have not landed."""
    if not folder.startswith("ingest_date="):
        return None
    day = parse_date(folder.removeprefix("ingest_date="))
    return day if day and store.settings.first_ingest_date <= day <= store.today() else None
