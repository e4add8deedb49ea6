"""What can go wrong in the middle, each survived by running again: nothing to clean by hand."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from stedi_assets_tests.odd_data import DATES, plain_objects
from stedi_assets_tests.test_catch_up import DATES as DAYS
from stedi_assets_tests.test_catch_up import landed, person, three_days

COMMAND = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*"]
COMMAND += ["-m", "stedi_assets.definitions", "--partition", str(DATES[0])]


def run() -> "subprocess.Popen[bytes]":
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(COMMAND, start_new_session=True, **quiet)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_random_moment_and_run_again(lake, seed):
    lake.put(plain_objects(seed))
    process = run()
    time.sleep(random.Random(seed).uniform(3.0, 8.0))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
def test_two_runs_over_the_same_date_at_once(lake):
    lake.put(plain_objects())
    processes = [run(), run()]
    assert [p.wait() for p in processes] == [0, 0]
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.parametrize(
    "asset",
    [
        "customer_landing",
        "customer_trusted",
        "accelerometer_trusted",
        "customers_curated",
        "step_trainer_trusted",
        "machine_learning_curated",
    ],
)
@pytest.mark.slow
def test_a_process_that_ends_right_after_a_tables_commit_loses_nothing(lake, monkeypatch, asset):
    from stedi_assets.io_manager import DeltaIOManager

    three_days(lake)
    lake.put(landed("customer", DAYS[0], "c", person(1, 9, None), person(2, 0, 1)))
    commit = DeltaIOManager._commit

    def commit_and_die(self, table, frame, dates):
        commit(self, table, frame, dates)
        if table.name == asset:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DeltaIOManager, "_commit", commit_and_die)
        with pytest.raises(KeyboardInterrupt):
            lake.materialize(DAYS[0])
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
def test_objects_deleted_while_they_are_read(lake, monkeypatch):
    from stedi_assets import io_manager

    lake.put(plain_objects())
    (key,) = (k for k in lake.objects if "/accelerometer/" in k)
    read = io_manager.read_landed

    def read_after_a_deletion(*arguments):
        if key in lake.objects:
            lake.remove(key)
        return read(*arguments)

    monkeypatch.setattr(io_manager, "read_landed", read_after_a_deletion)
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
def test_the_machines_time_zone_does_not_matter(lake):
    lake.put(plain_objects())
    done = subprocess.run(COMMAND, env={**os.environ, "TZ": "Pacific/Kiritimati"}, check=False)
    assert done.returncode == 0
    assert lake.differences() == {}
