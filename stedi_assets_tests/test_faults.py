"""What can go wrong in the middle, each survived by running again: nothing to clean by hand."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import date

import pytest

from stedi_assets import observation, stale
from stedi_assets.io_manager import Dates, DeltaIOManager, read_days
from stedi_assets.landed import landed_objects
from stedi_assets.schemas import ENTITIES, TABLES
from stedi_assets_tests.odd_data import DATES, plain_objects
from stedi_assets_tests.test_catch_up import DATES as DAYS
from stedi_assets_tests.test_catch_up import landed, person, three_days

COMMAND = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*"]
COMMAND += ["-m", "stedi_assets.definitions", "--partition", str(DATES[0])]


def run(day: date = DATES[0]) -> "subprocess.Popen[bytes]":
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*COMMAND[:-1], str(day)], start_new_session=True, **quiet)


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
@pytest.mark.parametrize("days", [(DATES[0], DATES[0]), (DATES[0], DATES[1])])
def test_two_runs_over_the_same_and_over_neighbouring_dates_at_once(lake, days):
    for seed, day in enumerate(DATES[:2]):
        lake.put(plain_objects(seed, day))
    for _ in range(2):  # the first time the tables are made, the second time rewritten
        processes = [run(day) for day in days]
        assert [p.wait() for p in processes] == [0, 0]
    lake.catch_up()
    assert lake.differences() == {}


def test_a_landing_run_that_another_overtook_does_not_vouch_for_the_others_rows(lake):
    """An older listing's rows, committed last, stand there until the next run, and it is known."""
    from stedi_assets.bookkeeping import LandingWrite
    from stedi_assets.definitions import io_manager

    table, entity, day = TABLES["customer_landing"], ENTITIES["customer"], DAYS[0]

    def begin():
        listings = {day: landed_objects(lake.lake, entity.name, day)}
        landing = LandingWrite(lake.lake, table, listings)
        landing.before()
        return landing, read_days(io_manager, entity, listings)

    lake.put(landed("customer", day, "one", person(1, 0, 1)))
    older, older_rows = begin()
    lake.put(landed("customer", day, "two", person(2, 0, 1)))
    newer, newer_rows = begin()
    newer_token = io_manager.write(table, newer_rows, Dates(day, day))
    older_token = io_manager.write(table, older_rows, Dates(day, day))
    older.after(older_token)
    newer.after(newer_token)
    listing = observation.look(lake.lake)
    assert observation.changed(lake.lake, listing) == {("customer", day)}
    lake.catch_up()
    assert lake.differences() == {}


def test_a_write_whose_inputs_changed_meanwhile_is_done_again(lake, monkeypatch):
    three_days(lake)
    write = DeltaIOManager.write
    others = []

    def write_after_another_run(self, table, frame, dates):
        if table.name == "accelerometer_trusted" and not others:
            others.append("started")
            empty = self.read(TABLES["customer_trusted"]).where("false")
            write(self, TABLES["customer_trusted"], empty, None)
        return write(self, table, frame, dates)

    with monkeypatch.context() as patch:
        patch.setattr(DeltaIOManager, "write", write_after_another_run)
        lake.materialize(DAYS[0], DAYS[0], "accelerometer_trusted")
    marked = {(mark.table, mark.ingest_date) for mark in stale.marks(lake.lake)}
    assert ("accelerometer_trusted", DAYS[0]) in marked


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
    three_days(lake)
    lake.put(landed("customer", DAYS[0], "c", person(1, 9, None), person(2, 0, 1)))
    commit = DeltaIOManager._commit

    def commit_and_die(self, table, frame, dates):
        token = commit(self, table, frame, dates)
        if table.name == asset:
            raise KeyboardInterrupt
        return token

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
