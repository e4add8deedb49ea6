"""The sensor and the decision it asks."""

from datetime import date, timedelta

import dagster as dg
import pytest

from stedi_assets.decision import Work, changed_partitions, what_must_run
from stedi_assets.landed import LandedObject
from stedi_assets.ledger import Built
from stedi_assets.sensors import ROUNDS, WORK_TAG, landing_sensor, spans_to_look_at
from stedi_assets.settings import StediError
from stedi_assets.stale import Mark
from stedi_assets.stretches import stretches
from stedi_assets_tests.odd_data import DATES, plain_objects

DAY = date(2022, 6, 18)
ONE, TWO = LandedObject("k", "etag", 3), LandedObject("k", "other", 3)
ENTRY = Built.of([ONE], ["file"])


@pytest.mark.parametrize(
    ("listed", "ledger", "files", "changed"),
    [
        ((ONE,), ENTRY, {"file"}, False),
        ((TWO,), ENTRY, {"file"}, True),  # rewritten under its name
        ((), ENTRY, {"file"}, True),  # deleted
        ((ONE,), None, set(), True),  # new
        ((ONE,), ENTRY, {"other file"}, True),  # another write came after the ledger's
        ((), None, set(), False),  # nothing landed, nothing built
    ],
)
def test_a_partition_is_changed_when_it_is_not_built_from_what_is_listed(
    listed, ledger, files, changed
):
    partition = ("customer", DAY)
    entries = {partition: {ledger}} if ledger else {}
    of_files = {partition: frozenset(files)} if files else {}
    found = changed_partitions({partition: listed}, entries, of_files)
    assert found == ({partition} if changed else set())


def test_changed_dates_run_first_then_stale_tables_upstream_first():
    marks = [Mark("machine_learning_curated", DAY, "a"), Mark("accelerometer_trusted", DAY, "b")]
    assert what_must_run([DAY, DAY + timedelta(1)], marks) == [Work((), DAY, DAY + timedelta(1))]
    assert what_must_run([], marks) == [Work(("accelerometer_trusted",), DAY, DAY)]
    assert what_must_run([], []) == []


def test_stretches_are_of_consecutive_days_and_bounded():
    days = [DAY + timedelta(n) for n in (0, 1, 2, 4)]
    assert stretches(days, most=2) == [(days[0], days[1]), (days[2], days[2]), (days[3], days[3])]


def test_all_dates_are_looked_at_within_the_rounds():
    days = [DAY + timedelta(n) for n in range(1000)]
    built = days[:980]
    looked = [
        {
            day
            for first, last in spans_to_look_at(DAY, days[-1], built, tick)
            for day in days
            if (first is None or first <= day) and (last is None or day <= last)
        }
        for tick in range(ROUNDS)
    ]
    assert set.union(*looked) == set(days)
    assert all({built[-1], days[-1]} <= one and len(one) < 150 for one in looked)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_date_that_is_new_is_looked_at_in_every_tick(number):
    old, today = date(2022, 6, 18), date(2026, 11, 24)
    for built in (set(), {old + timedelta(n) for n in range(1, 1000)}):
        spans = spans_to_look_at(old, today, built, number, {old, *built})
        assert any((a is None or a <= old) and (b is None or old <= b) for a, b in spans)


def tick(instance, cursor="0"):
    from stedi_assets.definitions import defs, io_manager

    with dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=defs, resources={"io_manager": io_manager}
    ) as context:
        return landing_sensor(context)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_the_sensor_drives_an_empty_lake_to_the_reference_tables(new_lake, instance):
    from stedi_assets.definitions import defs

    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[2]))
    lake.put({"landing/customer/stray.json": b"{}"})
    requested = []
    for number in range(12):
        result = tick(instance, str(number))
        if not result.run_requests:
            break
        (request,) = result.run_requests
        requested.append(request.job_name)
        job = defs.resolve_job_def(request.job_name)
        done = job.execute_in_process(
            instance=instance,
            asset_selection=request.asset_selection,
            partition_key=request.partition_key,
            tags=request.tags,
        )
        assert done.success
    assert lake.differences() == {}
    assert requested[:2] == ["lakehouse", "lakehouse"]
    assert "settle_membership" in requested


def test_the_sensor_waits_for_the_quiet_period(new_lake, instance):
    lake = new_lake(quiet_seconds="3600")
    lake.put(plain_objects())
    assert tick(instance).skip_reason


def test_a_run_that_failed_three_times_is_reported_and_not_requested_again(new_lake, instance):
    from stedi_assets.definitions import defs

    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects())
    (request,) = tick(instance).run_requests
    job = defs.resolve_job_def("lakehouse")
    for _ in range(3):
        run = instance.create_run_for_job(
            job, tags={WORK_TAG: request.tags[WORK_TAG]}, status=dg.DagsterRunStatus.FAILURE
        )
        assert run
    with pytest.raises(StediError, match="failed 3 times"):
        tick(instance)
