"""What is out of date and what runs next, on values: no S3, no engine, no Dagster."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from stedi_assets.incremental.ledger import Ledger, LedgerEntry, PartitionKey, files_of
from stedi_assets.incremental.membership import Membership
from stedi_assets.incremental.partition_inputs import LakeState, inputs_of, landing_inputs
from stedi_assets.incremental.planner import (
    PlannedRun,
    out_of_date,
    plan_runs,
    what_was_built,
)
from stedi_assets.lakehouse.dates import contiguous_ranges, described, on_days
from stedi_assets.lakehouse.delta_log import DataFile, TableLog
from stedi_assets.landing.layout import LandedObject
from stedi_assets.landing.listing import LandingListing
from stedi_assets.tables.schemas import BUILD_ORDER, TABLES

pytestmark = pytest.mark.unit
DAYS = [date(2022, 6, 18) + timedelta(n) for n in range(5)]
TRUSTED, PAIRS = TABLES["accelerometer_trusted"], TABLES["machine_learning_curated"]


def data_file(name: str, day: date | None, times: tuple[int, int] = (0, 9)) -> DataFile:
    return DataFile(name, 1, 1, str(day), day, 0, *times, day)


def log_of(table: str, *files: DataFile) -> TableLog:
    return TableLog(f"id of {table}", 1, "etag", files)


class Lake:
    """A lake as values, in which every partition is what its inputs make of it."""

    def __init__(self, days: list[date], times: dict[date, tuple[int, int]] | None = None) -> None:
        times = times or {day: (100 * n, 100 * n + 9) for n, day in enumerate(DAYS)}
        keys: dict[str, list[PartitionKey]] = {
            name: [*days] if TABLES[name].partitioned else [None] for name in BUILD_ORDER
        }
        self.logs: dict[str, TableLog | None] = {
            name: log_of(name, *(data_file(f"{name} {k}", k, times.get(k, (0, 9))) for k in of))  # type: ignore[arg-type]
            for name, of in keys.items()
        }
        self.objects = {
            (entity, day): (LandedObject(f"{entity} {day}", "etag", 1),)
            for entity in ("customer", "accelerometer", "step_trainer")
            for day in days
        }
        self.members: dict[str, dict[PartitionKey, tuple[int, str]]] = {}
        self.ledgers: dict[str, Ledger] = {name: Ledger() for name in BUILD_ORDER}
        for name in BUILD_ORDER:
            self.build(name)

    def state(self) -> LakeState:
        return LakeState(self.logs, dict(self.ledgers), Membership("", self.members))

    def listing(self) -> LandingListing:
        return LandingListing(objects=dict(self.objects))

    def build(self, name: str) -> None:
        """Enter every partition of a table as built from what is there now."""
        log = self.logs[name]
        if TABLES[name].zone == "landing":
            entity = name.removesuffix("_landing")
            inputs = {
                day: landing_inputs(objects, self.state().limits)
                for (of, day), objects in self.objects.items()
                if of == entity
            }
        else:
            inputs = inputs_of(self.state(), TABLES[name])
        entries = {key: LedgerEntry(made, files_of(log, key)) for key, made in inputs.items()}
        self.ledgers[name] = Ledger(f"id of {name}", entries)

    def stale(self) -> dict[str, set[PartitionKey]]:
        found = {n: set(out_of_date(self.state(), TABLES[n], self.listing())) for n in BUILD_ORDER}
        return {name: keys for name, keys in found.items() if keys}


def test_nothing_is_out_of_date_in_a_lake_that_was_built():
    assert Lake(DAYS[:3]).stale() == {}


@pytest.mark.parametrize(
    "objects",
    [
        (LandedObject("accelerometer 2022-06-18", "other", 1),),  # rewritten under its name
        (),  # deleted
        (LandedObject("a", "etag", 1), LandedObject("b", "etag", 1)),  # one more
    ],
)
def test_a_landing_partition_is_out_of_date_when_its_objects_are_others(objects):
    lake = Lake(DAYS[:2])
    if objects:
        lake.objects["accelerometer", DAYS[0]] = objects
    else:
        del lake.objects["accelerometer", DAYS[0]]
    assert lake.stale() == {"accelerometer_landing": {DAYS[0]}}


def test_dates_that_were_not_listed_are_left_out():
    lake = Lake(DAYS[:3])
    lake.objects.clear()
    listing = LandingListing(ranges=((DAYS[1], DAYS[1]),))
    reasons = out_of_date(lake.state(), TABLES["customer_landing"], listing)
    assert reasons == {DAYS[1]: "nothing is there upstream any more"}


@pytest.mark.parametrize("table", BUILD_ORDER)
def test_files_that_are_not_the_entrys_and_a_lost_entry_make_a_partition_out_of_date(table):
    key = DAYS[0] if TABLES[table].partitioned else None
    lake = Lake(DAYS[:1])
    lake.logs[table] = log_of(table, data_file("of another commit", key))
    assert key in lake.stale()[table]
    lake = Lake(DAYS[:1])
    lake.ledgers[table] = Ledger(f"id of {table}", {})
    assert key in lake.stale()[table]
    lake = Lake(DAYS[:1])
    lake.logs[table] = replace(lake.logs[table], table_id="made anew")  # type: ignore[type-var]
    assert key in lake.stale()[table]


def test_compaction_changes_no_identity():
    lake = Lake(DAYS[:2])
    before = lake.state().identity("accelerometer_trusted", DAYS[0])
    files = data_file("compacted", DAYS[0]), lake.logs["accelerometer_trusted"].files[1]
    lake.logs["accelerometer_trusted"] = log_of("accelerometer_trusted", *files)
    lake.build("accelerometer_trusted")
    assert lake.state().identity("accelerometer_trusted", DAYS[0]) == before
    assert lake.stale() == {}


def test_who_is_in_concerns_just_the_dates_with_their_readings():
    lake = Lake(DAYS[:3])
    lake.members["accelerometer_trusted"] = {DAYS[1]: (1, "hash")}
    assert lake.stale() == {"accelerometer_trusted": {DAYS[1]}}
    lake.build("accelerometer_trusted")
    assert lake.stale() == {"machine_learning_curated": {DAYS[1]}}


def test_a_change_of_an_earlier_date_concerns_later_ones_with_readings_of_the_same_times():
    times = {DAYS[0]: (0, 9), DAYS[1]: (50, 59), DAYS[2]: (5, 70)}
    lake = Lake(DAYS[:3], times)
    lake.objects["accelerometer", DAYS[0]] = (LandedObject("k", "other", 1),)
    assert lake.stale() == {"accelerometer_landing": {DAYS[0]}}
    lake.build("accelerometer_landing")
    assert lake.stale() == {"accelerometer_trusted": {DAYS[0], DAYS[2]}}


def test_pairs_look_back_into_the_other_table_only_where_times_meet():
    times = {DAYS[0]: (0, 9), DAYS[1]: (0, 9), DAYS[2]: (50, 59)}
    lake = Lake(DAYS[:3], times)
    lake.objects["step_trainer", DAYS[0]] = (LandedObject("k", "other", 1),)
    lake.build("step_trainer_landing")
    lake.build("step_trainer_trusted")
    assert lake.stale() == {"machine_learning_curated": {DAYS[0], DAYS[1]}}


def test_a_table_that_is_lost_is_out_of_date_as_a_whole():
    lake = Lake(DAYS[:2])
    lake.logs["customers_curated"] = None
    assert None in lake.stale()["customers_curated"]


def test_a_lost_data_file_makes_its_partition_out_of_date():
    lake = Lake(DAYS[:2])
    state = replace(lake.state(), lost_files={PAIRS.name: frozenset({DAYS[1]})})
    assert out_of_date(state, PAIRS) == {DAYS[1]: "a data file is gone or was written over"}


def test_an_empty_lake_has_nothing_to_build():
    logs = dict.fromkeys(BUILD_ORDER)
    state = LakeState(logs, {name: Ledger() for name in BUILD_ORDER}, Membership("", {}))
    assert all(not out_of_date(state, TABLES[n], LandingListing()) for n in BUILD_ORDER)


def landed(*days: date) -> dict[str, dict[PartitionKey, str]]:
    return {"accelerometer_landing": dict.fromkeys(days, "why")}


def test_new_dates_run_as_assets_and_scattered_changes_as_one_refresh():
    new = plan_runs(landed(DAYS[0], DAYS[1], DAYS[3]), [])
    assert new == [PlannedRun(DAYS[0], DAYS[1]), PlannedRun(DAYS[3], DAYS[3])]
    assert plan_runs(landed(DAYS[1], DAYS[4]), DAYS[:4]) == [PlannedRun(DAYS[4], DAYS[4])]
    assert plan_runs(landed(DAYS[1], DAYS[3]), DAYS) == [PlannedRun()]
    assert plan_runs(landed(DAYS[1], DAYS[2]), DAYS) == [PlannedRun(DAYS[1], DAYS[2])]
    trusted = {TRUSTED.name: {DAYS[0]: "why"}}
    assert plan_runs(trusted, DAYS) == [PlannedRun()]
    assert plan_runs({**landed(DAYS[1]), **trusted}, DAYS) == [PlannedRun()]
    assert plan_runs({**landed(DAYS[4]), **trusted}, DAYS[:4]) == [PlannedRun(DAYS[4], DAYS[4])]
    assert plan_runs(landed(DAYS[1]), [], outside=[DAYS[0]]) == [PlannedRun()]
    assert plan_runs({}, DAYS) == []


def test_a_change_of_people_is_one_refresh_since_it_may_concern_any_date():
    people = {"customer_landing": {DAYS[1]: "why"}}
    assert plan_runs({**landed(DAYS[1]), **people}, DAYS) == [PlannedRun()]
    assert plan_runs(people, []) == [PlannedRun()]
    assert plan_runs({**landed(DAYS[1]), **people}, []) == [PlannedRun(DAYS[1], DAYS[1])]


def test_new_dates_that_keep_landing_wait_for_who_has_to_leave_the_others():
    new = PlannedRun(DAYS[2], DAYS[2])
    people = PlannedRun(without_new_dates=True)
    assert plan_runs(landed(DAYS[2]), DAYS[:2]) == [new]
    assert plan_runs(landed(DAYS[2]), DAYS[:2], people_first=True) == [people, new]
    late = plan_runs(landed(DAYS[1]), DAYS[:2], people_first=True)
    assert late == [PlannedRun(DAYS[1], DAYS[1])]


def test_a_date_of_which_only_customers_landed_is_not_run_with_a_new_one():
    customers = {"customer_landing": {DAYS[1]: "why", DAYS[2]: "why"}}
    assert plan_runs({**landed(DAYS[2]), **customers}, DAYS[:1]) == [PlannedRun(DAYS[2], DAYS[2])]
    assert plan_runs({**landed(DAYS[0]), **customers}, DAYS[:1]) == [PlannedRun()]


def test_people_may_have_to_leave_partitions_with_rows_and_of_lost_tables_those_that_they_had():
    lake = Lake(DAYS[:2])
    stale: dict[str, dict[PartitionKey, str]] = {
        "customer_landing": {DAYS[2]: "why"},
        "accelerometer_landing": {DAYS[0]: "why", DAYS[2]: "why"},
        "customers_curated": {None: "why"},
        TRUSTED.name: {DAYS[1]: "why", DAYS[2]: "why"},
        PAIRS.name: {DAYS[2]: "why"},
    }
    kept = {name: {k for k in keys if k != DAYS[2]} for name, keys in stale.items()}
    kept = {name: keys for name, keys in kept.items() if keys} | {"customer_landing": {DAYS[2]}}

    def found(**how: object) -> dict[str, set[PartitionKey]]:
        state = replace(lake.state(), **how)  # type: ignore[arg-type]
        return {name: set(keys) for name, keys in what_was_built(state, stale).items()}

    assert found() == kept
    lake.logs[TRUSTED.name] = None
    assert found() == kept
    lake.ledgers[TRUSTED.name] = Ledger()
    assert found() == {name: keys for name, keys in kept.items() if name != TRUSTED.name}
    left_over = {TRUSTED.name: frozenset([None])}
    assert found(lost_files=left_over) == kept | {TRUSTED.name: {DAYS[1], DAYS[2]}}
    assert found(logs=dict.fromkeys(BUILD_ORDER)) == {}


def test_a_date_that_failed_is_left_to_the_refresh():
    assert plan_runs(landed(DAYS[0]), [], left=[DAYS[0]]) == [PlannedRun()]


def test_ranges_are_of_consecutive_days_and_bounded():
    days = [DAYS[n] for n in (0, 1, 2, 4)]
    ranges = [(DAYS[0], DAYS[1]), (DAYS[2], DAYS[2]), (DAYS[4], DAYS[4])]
    assert contiguous_ranges(days, max_days=2) == ranges
    assert described(days) == "2022-06-18 to 2022-06-20, 2022-06-22"
    assert on_days([]) == "false"
