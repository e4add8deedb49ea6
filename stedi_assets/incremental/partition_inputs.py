"""What a partition would be built from now: the one function that writers and the planner share.

A writer stores what it says of the state that was read; the planner compares that with what it says
of the state now. Both are pure: they look at values and read nothing.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate
from typing import Any

from stedi_assets.incremental.ledger import Ledger, PartitionKey, files_of, fingerprint
from stedi_assets.incremental.membership import Membership
from stedi_assets.lakehouse.dates import TimeInterval, merged, overlap
from stedi_assets.lakehouse.delta_log import DataFile, TableLog, time_intervals
from stedi_assets.landing.layout import LandedObject
from stedi_assets.landing.listing import LandingListing
from stedi_assets.tables.schemas import LANDING_TABLES, Table

Inputs = dict[str, str]  # what is read -> its identity
Limits = tuple[int, int]  # bytes of a landed object's text, and of a record, that are read at most

# Part of every identity: one more where a rule or the parser gives other rows than before, so that
# every partition is built again. (2: days looked back into are whole numbers; long lines.)
RULES_VERSION = "2"
EARLIER_DATES = "earlier dates"  # the input of all that is read of dates before the partition's


@dataclass(frozen=True)
class LakeState:
    """The lake's state at one moment: logs, ledgers, membership, and partitions with lost files.

    salt: what identifies the salt of subject_id; limits: those of landed objects and their records.
    """

    logs: Mapping[str, TableLog | None]
    ledgers: Mapping[str, Ledger]
    membership: Membership
    salt: str = ""
    limits: Limits = (0, 0)
    # Partitions with data files that S3 does not list any more, by table; None: files of no table.
    lost_files: Mapping[str, frozenset[PartitionKey]] = field(default_factory=dict)

    def identity(self, table: str, key: PartitionKey) -> str:
        """A partition's data version; where it is unknown, a value that no entry has."""
        log = self.logs[table]
        entry = self.ledgers[table].valid_entry(key, log)
        if entry is not None:
            return entry.identity
        files = files_of(log, key)
        return "nothing" if files == files_of(None, key) else f"unknown {files}"

    def exists(self, table: str) -> bool:
        """Whether there is such a table."""
        return self.logs[table] is not None


def landing_inputs(objects: Iterable[LandedObject], limits: Limits) -> Inputs:
    """What a landing partition is built from: objects, and limits where one may be beyond them."""
    identities = [
        [o.key, o.etag, o.size, *(limits if o.is_gzipped or o.size > min(limits) else ())]
        for o in objects
    ]
    return {"objects": fingerprint(identities), "rules": RULES_VERSION}


def listed_inputs(
    table: Table, listing: LandingListing, limits: Limits
) -> dict[PartitionKey, Inputs]:
    """What every partition of a landing table would be built from, of the dates that are listed."""
    assert table.entity is not None
    return {
        day: landing_inputs(objects, limits)
        for (entity, day), objects in listing.objects.items()
        if entity == table.entity.name
    }


def inputs_of(state: LakeState, table: Table) -> dict[PartitionKey, Inputs]:
    """What every partition of a table past the landing zone would be built from now."""
    if not any(state.exists(table.name) for table in LANDING_TABLES):
        return {}
    inputs = _INPUTS[table.name](state)
    return {
        key: {**partition_inputs, "rules": RULES_VERSION}
        for key, partition_inputs in inputs.items()
    }


def _customer_trusted(state: LakeState) -> dict[PartitionKey, Inputs]:
    log = state.logs["customer_landing"]
    days = log.by_date if log else {}
    records = fingerprint([str(day), state.identity("customer_landing", day)] for day in days)
    return {None: {"customer_landing": records}}


def _customers_curated(state: LakeState) -> dict[PartitionKey, Inputs]:
    return {
        None: {
            "customer_trusted": state.identity("customer_trusted", None),
            "members": state.membership.identity("customers_curated", None),
        }
    }


def _accelerometer_trusted(state: LakeState) -> dict[PartitionKey, Inputs]:
    return _readings(state, "accelerometer_landing", "accelerometer_trusted")


def _step_trainer_trusted(state: LakeState) -> dict[PartitionKey, Inputs]:
    return _readings(state, "step_trainer_landing", "step_trainer_trusted")


def _readings(state: LakeState, source: str, table: str) -> dict[PartitionKey, Inputs]:
    """A trusted table of readings: its date's, earlier ones that it may repeat, and its members."""
    log = state.logs[source]
    times = _times(log)
    earlier = _earlier(times, times)
    return {
        day: {
            source: state.identity(source, day),
            EARLIER_DATES: fingerprint(
                [str(e), state.identity(source, e)] for e in earlier.get(day, ())
            ),
            "members": state.membership.identity(table, day),
        }
        for day in (log.by_date if log else ())
        if day
    }


def _machine_learning_curated(state: LakeState) -> dict[PartitionKey, Inputs]:
    names = ("accelerometer_trusted", "step_trainer_trusted")
    times = {name: _times(state.logs[name]) for name in names}
    # A pair's later half is of the day, its earlier one of the other table's earlier dates.
    earlier = {
        names[0]: _earlier(times[names[1]], times[names[0]]),
        names[1]: _earlier(times[names[0]], times[names[1]]),
    }
    inputs: dict[PartitionKey, Inputs] = {}
    for day in {day for name in names for day in _days(state.logs[name])}:
        halves = [(name, e) for name in names for e in earlier[name].get(day, ())]
        steps = {day, *(e for name, e in halves if name == "step_trainer_trusted")}
        owners = [[str(d), *state.membership.of("machine_learning_curated", d)] for d in steps]
        inputs[day] = {
            **{name: state.identity(name, day) for name in names},
            EARLIER_DATES: fingerprint([n, str(e), state.identity(n, e)] for n, e in halves),
            "members": fingerprint(owners),
            "salt": state.salt,
        }
    return inputs


_INPUTS: dict[str, Callable[[LakeState], dict[PartitionKey, Inputs]]] = {
    "customer_trusted": _customer_trusted,
    "accelerometer_trusted": _accelerometer_trusted,
    "customers_curated": _customers_curated,
    "step_trainer_trusted": _step_trainer_trusted,
    "machine_learning_curated": _machine_learning_curated,
}


def _days(log: TableLog | None) -> list[date]:
    return [day for day in (log.by_date if log else ()) if day]


def _times(log: TableLog | None) -> dict[date, list[TimeInterval]]:
    """The times of every ingest date's readings, by the statistics in the log."""
    files: Mapping[Any, list[DataFile]] = log.by_date if log else {}
    times = {day: merged(time_intervals(of_day)) for day, of_day in files.items() if day}
    return {day: intervals for day, intervals in times.items() if intervals}


def _earlier(
    of: Mapping[date, list[TimeInterval]], among: Mapping[date, list[TimeInterval]]
) -> dict[date, list[date]]:
    """For each date of one table, the earlier dates of another with readings of the same times."""
    by_start = sorted((times[0][0], times[-1][1], day) for day, times in among.items())
    starts = [start for start, _, _ in by_start]
    # The latest end of those up to each: where that is before a date's readings, so are they all.
    ends = list(accumulate((end for _, end, _ in by_start), max))
    result: dict[date, list[date]] = {}
    for day, times in of.items():
        first, last = times[0][0], times[-1][1]
        at, found = bisect_right(starts, last) - 1, list[date]()
        while at >= 0 and ends[at] >= first:
            other = by_start[at][2]
            if other < day and overlap(times, among[other]):
                found.append(other)
            at -= 1
        result[day] = sorted(found)
    return result
