"""Looks at the lake for `decision.py`: lists objects, reads the ledger, the logs and the marks."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date

from stedi_assets import ledger
from stedi_assets.decision import Partition, changed_partitions
from stedi_assets.lake import Lake, is_data
from stedi_assets.land import parse_date
from stedi_assets.landed import LandedObject, landed_objects
from stedi_assets.schemas import ENTITIES
from stedi_assets.settings import today


@dataclass
class Listing:
    """Landed objects by partition, and the names of those that have not landed yet."""

    objects: dict[Partition, tuple[LandedObject, ...]] = field(default_factory=dict)
    misplaced: list[str] = field(default_factory=list)


def list_everything(lake: Lake) -> Listing:
    """Every landed object, in one listing an entity; partitions with a ledger entry are there too.

    Objects outside an `ingest_date=` folder, or with a date that is none, too early or to come,
    are `misplaced`.
    """
    listing = Listing()
    found: dict[Partition, list[LandedObject]] = {
        (entity, day): [] for entity in ENTITIES for day in ledger.days(lake, entity)
    }
    for entity in ENTITIES:
        folder = f"landing/{entity}/"
        for one in lake.objects(folder):
            place, _, name = one["Key"][len(folder) :].partition("/")
            if not is_data(name or place):
                continue
            day = landed_day(lake, place) if name else None
            if day is None:
                listing.misplaced.append(one["Key"])
                continue
            landed = LandedObject(one["Key"], one["ETag"].strip('"'), one["Size"])
            found.setdefault((entity, day), []).append(landed)
    listing.objects = {key: tuple(objects) for key, objects in found.items()}
    return listing


def landed_day(lake: Lake, folder: str) -> date | None:
    """The ingest date of a folder's name, or None where objects in it have not landed."""
    if not folder.startswith("ingest_date="):
        return None
    day = parse_date(folder.removeprefix("ingest_date="))
    return day if day and lake.settings.first_ingest_date <= day <= today() else None


def list_partitions(lake: Lake, partitions: Iterable[Partition]) -> Listing:
    """The landed objects of some partitions."""
    wanted = list(partitions)
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda one: tuple(landed_objects(lake, *one)), wanted)
        return Listing(dict(zip(wanted, found, strict=True)))


def changed(lake: Lake, listing: Listing) -> set[Partition]:
    """The listed partitions that the landing tables do not hold as listed."""
    entries = ledger.entries(lake, list(listing.objects))
    files: dict[Partition, set[str]] = {}
    for entity in ENTITIES:
        log = lake.log(f"{entity}_landing")
        for file in log.files if log else ():
            if file.ingest_date:
                files.setdefault((entity, file.ingest_date), set()).add(file.path)
    frozen = {key: frozenset(paths) for key, paths in files.items()}
    return changed_partitions(listing.objects, entries, frozen)
