"""What the IO manager remembers around a write: stale marks and, for landing tables, the ledger."""

from collections.abc import Iterable
from datetime import date, timedelta

from stedi_assets.incremental import ledger
from stedi_assets.incremental import stale_markers as stale
from stedi_assets.incremental.ledger import Built
from stedi_assets.lakehouse.object_store import DataFile, Lake, TableLog
from stedi_assets.landing.reader import LandedObject
from stedi_assets.tables.schemas import Table

Listings = dict[date, list[LandedObject]]

# Landing table -> the tables whose partition is made of the same day's rows, and whose later
# partitions may hold repeats or other halves of its readings; and where those readings lie.
_DOWNSTREAM = {
    "accelerometer_landing": {
        "accelerometer_trusted": ("accelerometer_landing",),
        "machine_learning_curated": ("accelerometer_landing", "step_trainer_landing"),
    },
    "step_trainer_landing": {
        "step_trainer_trusted": ("step_trainer_landing",),
        "machine_learning_curated": ("accelerometer_landing", "step_trainer_landing"),
    },
}
# Written table -> unpartitioned tables that are made of it.
_WHOLE = {
    "customer_landing": "customer_trusted",
    "customer_trusted": "customers_curated",
    "accelerometer_trusted": "customers_curated",
}


def dates_at_the_same_times(
    readings: Iterable[DataFile], others: Iterable[DataFile], after: date
) -> set[date]:
    """The ingest dates after a day with files whose times overlap those of the readings' files."""
    times = [
        (f.first_time, f.last_time)
        for f in readings
        if f.first_time is not None and f.last_time is not None
    ]
    return {
        o.ingest_date
        for o in others
        if o.ingest_date is not None
        and o.ingest_date > after
        and o.first_time is not None
        and o.last_time is not None
        and any(first <= o.last_time and o.first_time <= last for first, last in times)
    }


class LandingWrite:
    """The bookkeeping around one write of a landing table's days."""

    def __init__(self, lake: Lake, table: Table, listings: Listings) -> None:
        self.lake, self.table, self.listings = lake, table, listings
        self.entity = table.name.removesuffix("_landing")
        self.days = sorted(listings)

    def before(self) -> None:
        """Mark what the rows that are about to go, or to be replaced, concern."""
        log = self.lake.log(self.table)
        self.version = log.version if log else -1
        self.changed = self._changed(log)
        if self.changed:
            self._mark()

    def after(self, token: str) -> None:
        """Mark what the new rows concern, then say in the ledger what the days are built from.

        token: of the commit. A day that another run wrote after it is that run's to enter.
        """
        self.lake.look_again()
        if self.changed:
            self._mark()
        mine = self.lake.added(self.table, token, after=self.version)
        log = self.lake.log(self.table)
        assert log is not None, "written just now"
        for day, objects in self.listings.items():
            files = log.of(day, day)
            if {file.path for file in files} == {path for path, of in mine.items() if of == day}:
                ledger.record(self.lake, self.entity, day, objects, files)

    def _changed(self, log: TableLog | None) -> bool:
        """Whether any day is not what its objects, as they are listed now, make of it."""
        one_day = self.days[0] if len(self.days) == 1 else None
        entries = ledger.built(self.lake, self.entity, one_day)
        return any(
            Built.of(objects, [file.path for file in log.of(day, day)] if log else ())
            not in entries.get((self.entity, day), ())
            for day, objects in self.listings.items()
        )

    def _mark(self) -> None:
        mine = self.lake.log(self.table)
        readings = mine.of(self.days[0], self.days[-1]) if mine else []
        for table, places in _DOWNSTREAM.get(self.table.name, {}).items():
            days = set(self.days)
            for place in places:
                log = self.lake.log(place)
                later = log.of(self.days[-1] + timedelta(1)) if log else []
                days |= dates_at_the_same_times(readings, later, self.days[-1])
            stale.mark(self.lake, table, days)
        if self.table.name in _WHOLE:
            stale.mark(self.lake, _WHOLE[self.table.name], [None])


def mark_whole(lake: Lake, table: Table) -> None:
    """Before a table changes: mark the unpartitioned table that is made of it."""
    if table.name in _WHOLE:
        stale.mark(lake, _WHOLE[table.name], [None])
