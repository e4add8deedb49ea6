"""What must run: a pure function over what S3 lists, what the ledger says, and the stale marks.

The sensors and `stedi catch-up` share it. Nothing here reads anything.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from stedi_assets.incremental.date_ranges import stretches
from stedi_assets.incremental.ledger import Built, Partition
from stedi_assets.incremental.stale_markers import Mark
from stedi_assets.landing.reader import LandedObject

# In this order stale tables are built again: what is later reads what is earlier.
LEVELS = (
    ("customer_trusted",),
    ("accelerometer_trusted",),
    ("customers_curated",),
    ("step_trainer_trusted",),
    ("machine_learning_curated",),
)


@dataclass(frozen=True)
class Work:
    """One run: tables (none: the whole graph) over the ingest dates from start to end.

    No dates: unpartitioned tables only.
    """

    tables: tuple[str, ...]
    start: date | None
    end: date | None

    @property
    def days(self) -> list[date]:
        """Each of its ingest dates."""
        if self.start is None or self.end is None:
            return []
        return [self.start + timedelta(n) for n in range((self.end - self.start).days + 1)]

    def __str__(self) -> str:
        what = ", ".join(self.tables) or "the whole graph"
        if self.start is None:
            return what
        return f"{what} for {self.start}" + (f" to {self.end}" if self.end != self.start else "")


def changed_partitions(
    listed: Mapping[Partition, tuple[LandedObject, ...]],
    ledger: Mapping[Partition, Collection[Built]],
    files: Mapping[Partition, frozenset[str]],
) -> set[Partition]:
    """The landing partitions that are not what their objects say.

    listed: the objects there, for every partition looked at (none: they were deleted);
    ledger: what each was built from and became; files: the landing tables' files of each now.
    """
    return {
        partition
        for partition, objects in listed.items()
        if (objects or partition in files)
        and Built.of(objects, files.get(partition, ())) not in ledger.get(partition, ())
    }


def what_must_run(changed: Collection[date], marks: Collection[Mark]) -> list[Work]:
    """The runs to do next: changed ingest dates first, else the first level of stale tables.

    What is left is decided anew after they ran.
    """
    if changed:
        return [Work((), first, last) for first, last in stretches(changed)]
    for tables in LEVELS:
        of_level = [mark for mark in marks if mark.table in tables]
        if of_level:
            days = {mark.ingest_date for mark in of_level if mark.ingest_date}
            if not days:
                return [Work(tables, None, None)]
            return [Work(tables, first, last) for first, last in stretches(days)]
    return []
