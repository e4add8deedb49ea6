"""The daily jobs: a sweep that catches what the sensor missed, and the erasing of old files."""

import shutil
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from stedi_assets.defs import idle_partitions, jobs
from stedi_assets.defs import schedules as daily
from stedi_assets.errors import StediError
from stedi_assets.privacy.vacuum import UNDER_WAY_HOURS
from stedi_assets.settings import today
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.driver import execute, tick
from stedi_assets_tests.odd_data import DATES, plain_objects
from stedi_assets_tests.test_catch_up import failing_write

# The last days before today, the oldest first.
PAST = [today() - timedelta(n) for n in (4, 3, 2, 1)]
PARTITIONED = [name for name, table in TABLES.items() if table.partitioned]


def run(lake, job: str) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return lake.defs.resolve_job_def(job).execute_in_process(instance=instance)


@pytest.mark.slow
def test_the_daily_sweep_builds_what_the_sensor_missed_and_maintenance_keeps_the_tables(lake):
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[2]))
    assert run(lake, "daily_sweep").success
    assert lake.differences() == {}
    assert run(lake, "maintenance").success
    assert lake.differences() == {}
    assert lake.catch_up() == 0


@pytest.fixture
def past_lake(new_lake):
    """A lake that begins a few days ago, with objects on its first date."""
    lake = new_lake(first_ingest_date=str(PAST[0]), quiet_seconds="0")
    lake.put(plain_objects(1, PAST[0]))
    return lake


def sweep(lake, instance: dg.DagsterInstance) -> bool:
    job = lake.defs.resolve_job_def("daily_sweep")
    return job.execute_in_process(instance=instance, raise_on_error=False).success


def missing(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    """The dates before today that Dagster takes for missing, of tables that have any."""
    days = {str(day) for day in PAST}
    found = {n: days - instance.get_materialized_partitions(dg.AssetKey(n)) for n in PARTITIONED}
    return {name: of_table for name, of_table in found.items() if of_table}


def events_of(instance: dg.DagsterInstance, table: str) -> list[dg.AssetMaterialization]:
    filters = dg.AssetRecordsFilter(dg.AssetKey(table))
    records = instance.fetch_materializations(filters, limit=100).records
    return [record.asset_materialization for record in records]


def test_the_sweep_reports_dates_on_which_nothing_landed_once(past_lake):
    with dg.DagsterInstance.ephemeral() as instance:
        assert sweep(past_lake, instance)
        assert missing(instance) == {}
        newest, *_ = events = events_of(instance, "machine_learning_curated")
        assert newest.partition == str(PAST[-1])
        assert newest.metadata["why"].value == "nothing landed"
        assert newest.metadata["dagster/partition_row_count"].value == 0
        assert "picture" in newest.metadata, "a quiet day does not empty the table's page"
        assert events_of(instance, "customer_trusted")[0].metadata["why"].value == "up to date"
        assert sweep(past_lake, instance)
        assert events_of(instance, "machine_learning_curated") == events
        assert len(instance.get_runs()) == 2, "the two sweeps, and no run of a date"


def test_what_lands_on_a_date_that_was_reported_empty_is_run(past_lake):
    with dg.DagsterInstance.ephemeral() as instance:
        assert sweep(past_lake, instance)
        past_lake.put(plain_objects(2, PAST[2]))
        (request,) = tick(past_lake, instance).run_requests
        assert request.partition_key == str(PAST[2])
        assert execute(past_lake, instance, request)
        assert events_of(instance, "customer_landing")[0].partition == str(PAST[2])
    past_lake.catch_up()
    assert past_lake.differences() == {}


def test_a_date_that_cannot_be_built_stays_missing(past_lake):
    past_lake.put(plain_objects(2, PAST[2]))
    write = past_lake.pipeline.write
    past_lake.pipeline.write = failing_write(write, "customer_landing", PAST[2])
    with dg.DagsterInstance.ephemeral() as instance:
        assert not sweep(past_lake, instance)
        of_table = missing(instance)
        assert of_table["customer_landing"] == {str(PAST[2])}
        assert all(days == {str(PAST[2])} for days in of_table.values())


def test_a_sweep_reports_the_newest_of_very_many(past_lake, monkeypatch):
    monkeypatch.setattr(idle_partitions, "MAX_REPORTED", 2)
    past_lake.catch_up()  # in another Dagster home
    with dg.DagsterInstance.ephemeral() as instance:
        assert sweep(past_lake, instance)
        left = {str(day) for day in PAST[:2]}
        assert missing(instance) == dict.fromkeys(PARTITIONED, left)
        assert sweep(past_lake, instance)
        assert missing(instance) == {}
        why = {e.partition: e.metadata["why"].value for e in events_of(instance, PARTITIONED[0])}
        assert why == dict.fromkeys(map(str, PAST), "nothing landed") | {str(PAST[0]): "up to date"}


def test_what_cannot_be_reported_keeps_no_check_of_whole_tables_from_running(
    past_lake, monkeypatch
):
    def fails(*_: object) -> int:
        raise StediError("membership cannot be computed")

    monkeypatch.setattr(daily, "report_idle_partitions", fails)
    assert_fails_and_checks_the_rest(past_lake, "membership cannot be computed")


def test_a_table_that_cannot_be_checked_holds_up_no_other(past_lake, monkeypatch):
    evaluations = jobs.evaluations

    def evaluate_all_but_one(pipeline, table, days):
        if table.name == "customer_landing":
            raise StediError("customer_landing cannot be read")
        return evaluations(pipeline, table, days)

    past_lake.catch_up()
    monkeypatch.setattr(jobs, "evaluations", evaluate_all_but_one)
    assert_fails_and_checks_the_rest(past_lake, "customer_landing cannot be read")


def assert_fails_and_checks_the_rest(lake, why: str) -> None:
    """A sweep fails and says why, after it has checked what it could."""
    job = lake.defs.resolve_job_def("daily_sweep")
    key = dg.AssetCheckKey(dg.AssetKey("customer_trusted"), "only_consenting_customers")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        (failure,) = result.get_step_failure_events()
        assert why in str(failure.event_specific_data.error)
        summary = instance.event_log_storage.get_asset_check_summary_records([key])[key]
        assert summary.last_check_execution_record is not None


def test_the_daily_jobs_are_scheduled_and_on():
    from stedi_assets.definitions import defs

    schedules = list(defs.schedules or ())
    assert {schedule.job_name for schedule in schedules} == {"daily_sweep", "maintenance"}
    assert all(s.default_status == dg.DefaultScheduleStatus.RUNNING for s in schedules)


def test_the_example_of_a_dagster_home_loads_and_fails_runs_that_died(tmp_path):
    example = Path(__file__).parents[1] / "dagster.local.yaml"
    shutil.copy(example, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds == UNDER_WAY_HOURS * 3600
