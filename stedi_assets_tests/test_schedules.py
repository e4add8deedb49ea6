"""The daily jobs: a sweep that catches what the sensor missed, and the erasing of old files."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from stedi_assets.privacy.vacuum import UNDER_WAY_HOURS
from stedi_assets_tests.odd_data import DATES, plain_objects


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


def test_the_daily_jobs_are_scheduled_and_on():
    from stedi_assets.definitions import defs

    schedules = list(defs.schedules or ())
    assert {schedule.job_name for schedule in schedules} == {"daily_sweep", "maintenance"}
    assert all(s.default_status == dg.DefaultScheduleStatus.RUNNING for s in schedules)


def test_the_example_of_a_dagster_home_loads_and_fails_runs_that_died(tmp_path):
    example = Path(__file__).parents[1] / "dagster.yaml.example"
    shutil.copy(example, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds == UNDER_WAY_HOURS * 3600
