"""What can go wrong on a cluster, each survived: the tables are right, nothing to clean by hand."""

import os
import subprocess
import sys
import threading
import time
from datetime import date

import pytest

from stedi_assets.defs.io_managers import DeltaIOManager
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.odd_data import DATES, odd_objects, plain_objects
from stedi_assets_tests.spark import another_driver
from stedi_assets_tests.spark.cluster import environment

STEPS = TABLES["step_trainer_trusted"]


@pytest.fixture
def in_the_middle(monkeypatch):
    """Has something happen once, while the write of a table is being computed."""

    def arrange(table: str, happen) -> threading.Event:
        happened = threading.Event()
        commit = DeltaIOManager._commit

        def happen_soon() -> None:
            time.sleep(0.3)  # a write on Spark takes seconds: into it, not before
            happen()
            happened.set()

        def commit_meanwhile(self, written, frame, predicate, scope):
            if written.name == table and not happened.is_set():
                threading.Thread(target=happen_soon).start()
            return commit(self, written, frame, predicate, scope)

        monkeypatch.setattr(DeltaIOManager, "_commit", commit_meanwhile)
        return happened

    return arrange


def test_nobody_is_named_in_the_clusters_logs_and_no_key_or_salt(lake, cluster):
    lake.put(plain_objects())
    lake.materialize(DATES[0])
    logs = cluster.logs()
    for value in (
        "@example.com",
        "Ann Example",
        lake.lake.settings.salt(),
        os.environ["AWS_SECRET_ACCESS_KEY"],
    ):
        assert value not in logs
    assert lake.differences() == {}


def test_a_worker_killed_in_the_middle_of_a_run(lake, cluster, in_the_middle):
    lake.put(odd_objects(6))
    happened = in_the_middle("accelerometer_landing", cluster.workers[0].kill)
    lake.materialize(DATES[0], DATES[-1])
    assert happened.wait(10)
    assert cluster.workers[0].process.poll() is not None
    assert lake.differences() == {}


def test_the_connect_server_killed_in_a_run_and_started_again(lake, cluster, in_the_middle):
    lake.put(plain_objects())
    happened = in_the_middle("accelerometer_trusted", cluster.connect.kill)
    with pytest.raises(Exception, match=r"accelerometer_trusted was not written.*went away"):
        lake.materialize(DATES[0])
    assert happened.wait(10)
    with pytest.raises(Exception, match="No Spark Connect server answers at STEDI_SPARK=sc://"):
        lake.materialize(DATES[0])
    cluster.heal()
    lake.materialize(DATES[0])
    assert lake.differences() == {}


def test_two_drivers_that_write_one_table_lose_no_commit(lake, tmp_path):
    from stedi_assets.definitions import io_manager

    mine, theirs, writes = date(2022, 6, 18), date(2022, 6, 19), 8
    another_driver.write(io_manager, mine, 1)  # the table is there
    before = lake.lake.log(STEPS).version
    program = ["-m", "stedi_assets_tests.spark.another_driver", str(theirs), str(writes)]
    log = tmp_path / "other.log"
    with log.open("w") as errors:
        other = subprocess.Popen(
            [sys.executable, *program],
            env=environment("local[1]"),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n", log.read_text()
        for count in range(1, writes + 1):
            another_driver.write(io_manager, mine, count)
        assert other.wait(120) == 0
    finally:
        other.kill()
        other.wait()
    after = lake.lake.log(STEPS)
    assert after.rows_by_date() == {mine: writes, theirs: writes}
    assert after.version == before + 2 * writes, "every commit has a version of its own"
