"""What is out of date, why, and what to run: pure functions of a lake's state and a listing.

The sensor and `stedi catch-up` share them. A partition is out of date when what it would be built
from now differs from its ledger entry, or its files are not those of the entry.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

from stedi_assets.incremental.ledger import PartitionKey, files_of
from stedi_assets.incremental.partition_inputs import (
    Inputs,
    LakeState,
    inputs_of,
    listed_inputs,
)
from stedi_assets.lakehouse.dates import contiguous_ranges, days_between, described
from stedi_assets.landing.listing import LandingListing
from stedi_assets.tables.schemas import BUILD_ORDER, LANDING_TABLES, TABLES, Table

Reasons = dict[PartitionKey, str]


@dataclass(frozen=True)
class PlannedRun:
    """One run: the whole graph over a range of ingest dates; without dates, the job `catch_up`.

    That builds whatever is out of date, of any table and date, in one run; without_new_dates just
    what was built before (`was_built`), where somebody may be who withdrew. What was begun before
    and not finished (`attempts`) it does not build, customers' records apart: it is emptied where
    they may be in it.
    """

    start: date | None = None
    end: date | None = None
    without_new_dates: bool = False

    @property
    def is_catch_up(self) -> bool:
        """Whether the run looks itself for what is out of date."""
        return self.start is None

    @property
    def days(self) -> list[date]:
        """Each of its ingest dates."""
        return [] if self.start is None or self.end is None else days_between(self.start, self.end)

    def __str__(self) -> str:
        if not self.is_catch_up:
            return f"all tables for {described(self.days)}"
        which = " (without new dates)" if self.without_new_dates else ""
        return f"the job catch_up{which}"


def out_of_date(state: LakeState, table: Table, listing: LandingListing | None = None) -> Reasons:
    """The partitions of a table that are out of date, each with the reason in words.

    listing: of the landed objects, for a landing table; dates that it does not cover are left out.
    """
    log, ledger = state.logs[table.name], state.ledgers[table.name]
    known: set[PartitionKey]
    if table.zone == "landing":
        assert listing is not None, "a landing table follows from what is listed"
        wanted = listed_inputs(table, listing, state.limits)
        entered = {*ledger.entries, *_days(state, table)}
        known = {day for day in entered if day and listing.covers(day)}
    else:
        wanted, known = inputs_of(state, table), _days(state, table)
        if log is None:  # lost: what is left of it others may still read
            known |= {*ledger.entries, *state.lost_files.get(table.name, ())}
    reasons: Reasons = {}
    for key in {*wanted, *known}:
        entry = ledger.entries.get(key)
        written = files_of(log, key) != files_of(None, key)
        if key not in wanted:
            had_objects = table.zone == "landing" and entry is not None and entry.objects
            if written or log is None or had_objects:
                reasons[key] = "nothing is there upstream any more"
        elif key in state.lost_files.get(table.name, ()):
            reasons[key] = "a data file is gone or was written over"
        elif entry is None or log is None or log.table_id != ledger.table_id:
            reasons[key] = "its files are unknown to the ledger" if written else "not built yet"
        elif entry.files != files_of(log, key):
            reasons[key] = "its files are not those that were built"
        elif changed := _changed(entry.inputs, wanted[key]):
            reasons[key] = f"changed: {changed}"
        elif (
            entry.refused
            and listing
            and table.entity
            and (table.entity.name, key) in listing.given_again
        ):
            reasons[key] = "S3 gives an object that it refused"
    return reasons


def _days(state: LakeState, table: Table) -> set[PartitionKey]:
    """The partitions that a table has files of."""
    log = state.logs[table.name]
    if log is None or not log.files:
        return set()
    return set(log.by_date) if table.partitioned else {None}


def _changed(before: Mapping[str, str], now: Inputs) -> str:
    return ", ".join(sorted(n for n in {*before, *now} if before.get(n) != now.get(n)))


def landing_out_of_date(state: LakeState, listing: LandingListing) -> dict[str, Reasons]:
    """What is out of date of the landing tables, by table; {}: nothing."""
    reasons = {table.name: out_of_date(state, table, listing) for table in LANDING_TABLES}
    return {name: of_table for name, of_table in reasons.items() if of_table}


def downstream_out_of_date(state: LakeState) -> dict[str, Reasons]:
    """What is out of date of the tables after them, in the order in which it can be built."""
    names = [name for name in BUILD_ORDER if TABLES[name].zone != "landing"]
    reasons = {name: out_of_date(state, TABLES[name]) for name in names}
    return {name: of_table for name, of_table in reasons.items() if of_table}


def holds_rows(state: LakeState) -> bool:
    """Whether any table has rows, the landing zone's among them."""
    return any(log and log.files for log in state.logs.values())


def may_hold_people(state: LakeState, table: Table, key: PartitionKey) -> bool:
    """Whether people may have to leave a partition, or it says who has to.

    Of a lost table that may be any partition that it had; a table that was never built has none.
    """
    if key is None or table.name == "customer_landing":
        return True
    log, entries = state.logs[table.name], state.ledgers[table.name].entries
    if log is not None:
        return bool(log.of(key))
    return key in entries if entries else table.name in state.lost_files


def was_built(state: LakeState, table: Table, key: PartitionKey) -> bool:
    """Whether a partition was built before, or people may have to leave it: of no new date."""
    return key in state.ledgers[table.name].entries or may_hold_people(state, table, key)


def what_was_built(state: LakeState, stale: Mapping[str, Reasons]) -> dict[str, Reasons]:
    """The part of what is out of date that is of no new date, by table; {}: no table has rows."""
    if not holds_rows(state):
        return {}
    found = {
        name: {key: why for key, why in reasons.items() if was_built(state, TABLES[name], key)}
        for name, reasons in stale.items()
    }
    return {name: reasons for name, reasons in found.items() if reasons}


def plan_runs(
    stale: Mapping[str, Reasons],
    built: Collection[date],
    *,
    people_first: bool = False,
    left: Collection[date] = (),
    outside: Collection[date] = (),
) -> list[PlannedRun]:
    """The runs to do next, in order.

    Dates whose readings were never built are run as assets, a contiguous range of them at a time;
    so is a single range of dates with other readings. Everything else is one run of the job
    `catch_up`: after a change of people any date may be out of date. It is all there is to do
    where only customers landed, or where there are rows of dates that no partition is of: with
    these the checks of a run fail.

    stale: what is out of date, by table; built: the dates with readings that were built;
    people_first: that job goes before new dates, without them; left: dates that are left to it,
    since a run of them failed; outside: that no partition is of.
    """
    if outside:
        return [PlannedRun()]
    landed = {name: reasons for name, reasons in stale.items() if TABLES[name].zone == "landing"}
    readings = {
        day
        for name, reasons in landed.items()
        for day in reasons
        if day and day not in left and name != "customer_landing"
    }
    new = readings - set(built)
    ranges = contiguous_ranges(new or readings)
    if not new and ("customer_landing" in landed or stale.keys() - landed or len(ranges) != 1):
        ranges = []
    runs = [PlannedRun(first, last) for first, last in ranges]
    if new and people_first:
        runs = [PlannedRun(without_new_dates=True), *runs]
    return runs or ([PlannedRun()] if stale else [])
