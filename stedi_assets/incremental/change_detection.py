"""Looks at the lake for `decision.py`: lists objects, reads the ledger, the logs and the marks."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from stedi_assets.incremental import ledger
from stedi_assets.incremental.ledger import Built, Partition
from stedi_assets.incremental.planner import changed_partitions
from stedi_assets.lakehouse.object_store import Lake, is_data
from stedi_assets.landing.reader import LandedObject
from stedi_assets.landing.upload import parse_date
from stedi_assets.settings import today
from stedi_assets.tables.schemas import ENTITIES

Dates = tuple[date | None, date | None]  # first and last, both included; None is open
EVERYTHING: tuple[Dates, ...] = ((None, None),)


@dataclass
class Listing:
    """Landed objects by partition, what the ledger says of them, and what has not landed."""

    objects: dict[Partition, tuple[LandedObject, ...]] = field(default_factory=dict)
    ledger: dict[Partition, set[Built]] = field(default_factory=dict)
    misplaced: list[str] = field(default_factory=list)
    # When each object landed, by S3's clock.
    when: dict[LandedObject, datetime] = field(default_factory=dict)


def ledger_of(lake: Lake) -> dict[Partition, set[Built]]:
    """What the ledger says of every partition that was ever built."""
    with ThreadPoolExecutor(len(ENTITIES)) as pool:
        of_entities = pool.map(lambda name: ledger.built(lake, name), ENTITIES)
        return {key: one for of_entity in of_entities for key, one in of_entity.items()}


def look(
    lake: Lake,
    spans: Iterable[Dates] = EVERYTHING,
    entities: Iterable[str] = tuple(ENTITIES),
    known: dict[Partition, set[Built]] | None = None,
) -> Listing:
    """The landed objects of some spans of ingest dates, in one listing a span and entity.

    Partitions with a ledger entry are there too, without objects. Objects outside an
    `ingest_date=` folder, or with a date that is none, too early or to come, are `misplaced`.
    known: the ledger, where it was read already.
    """
    lake.look_again()
    known = ledger_of(lake) if known is None else known
    entities = list(entities)
    spans = list(spans)
    listing = Listing(
        ledger={
            (entity, day): built
            for (entity, day), built in known.items()
            if entity in entities and any(_within(day, span) for span in spans)
        }
    )
    found: dict[Partition, set[LandedObject]] = {partition: set() for partition in listing.ledger}
    misplaced: set[str] = set()
    with ThreadPoolExecutor(len(ENTITIES)) as pool:  # S3 lists one while we read the other
        listed = pool.map(
            lambda name: [one for span in spans for one in _landed(lake, name, span)], entities
        )
        for entity, ones in zip(entities, listed, strict=True):
            for day, one in ones:
                if day is None:
                    misplaced.add(one["Key"])
                    continue
                landed = LandedObject(one["Key"], one["ETag"].strip('"'), one["Size"])
                found.setdefault((entity, day), set()).add(landed)
                listing.when[landed] = one["LastModified"]
    listing.objects = {partition: tuple(objects) for partition, objects in found.items()}
    listing.misplaced = sorted(misplaced)
    return listing


def _within(day: date, span: Dates) -> bool:
    first, last = span
    return (first is None or first <= day) and (last is None or day <= last)


def _landed(lake: Lake, entity: str, span: Dates) -> Iterable[tuple[date | None, dict[str, Any]]]:
    """An entity's objects with data in a span, with their ingest date, None where misplaced."""
    folder = f"landing/{entity}/"
    first, last = span
    # "0" is the character after "/": what stands there comes after everything in a date's folder.
    # (SeaweedFS leaves a folder out whole where its own name is what the listing starts after.)
    after = f"{folder}ingest_date={first - timedelta(1)}0" if first else None
    until = f"{folder}ingest_date={last}0" if last else None
    for one in lake.objects(folder, after=after, until=until):
        place, _, name = one["Key"][len(folder) :].partition("/")
        if is_data(name or place):
            yield (landed_day(lake, place) if name else None), one


def landed_day(lake: Lake, folder: str) -> date | None:
    """The ingest date of a folder's name, or None where objects in it have not landed."""
    if not folder.startswith("ingest_date="):
        return None
    day = parse_date(folder.removeprefix("ingest_date="))
    return day if day and lake.settings.first_ingest_date <= day <= today() else None


def changed(lake: Lake, listing: Listing) -> set[Partition]:
    """The listed partitions that the landing tables do not hold as listed."""
    files: dict[Partition, set[str]] = {}
    for entity in ENTITIES:
        log = lake.log(f"{entity}_landing")
        for file in log.files if log else ():
            if file.ingest_date:
                files.setdefault((entity, file.ingest_date), set()).add(file.path)
    frozen = {key: frozenset(paths) for key, paths in files.items()}
    return changed_partitions(listing.objects, listing.ledger, frozen)
