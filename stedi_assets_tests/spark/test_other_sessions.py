"""Classic sessions, whose driver is a JVM of the run's process; both engines on one lake."""

import os
import subprocess
import sys
from datetime import timedelta

from stedi_assets.defs.io_managers import Dates
from stedi_assets.privacy.vacuum import erase
from stedi_assets_tests.odd_data import DATES, odd_objects, plain_objects
from stedi_assets_tests.spark.cluster import environment
from stedi_assets_tests.test_catch_up import DATES as DAYS
from stedi_assets_tests.test_catch_up import landed, person, three_days
from stedi_assets_tests.test_erasure import everything_in
from stedi_assets_tests.test_io_manager import DAY, STEPS


def run(engine: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command of the project in a process of its own, on an engine."""
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment(engine), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def materialize(engine: str, first, last) -> "subprocess.CompletedProcess[str]":
    dagster = ["dagster", "asset", "materialize", "-m", "stedi_assets.definitions"]
    return run(engine, *dagster, "--select", "*", "--partition-range", f"{first}...{last}")


def test_odd_data_on_local_gives_the_reference_tables_and_no_key_is_logged(lake):
    lake.put(odd_objects(7))
    done = materialize("local[2]", DATES[0], DATES[-1])
    assert lake.differences() == {}
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
    assert lake.lake.settings.salt() not in done.stdout + done.stderr


def test_a_driver_on_the_clusters_master_gives_the_reference_tables(lake, cluster):
    lake.put(plain_objects(8))
    materialize(cluster.master, DATES[0], DATES[0])
    assert lake.differences() == {}


def test_each_engine_reads_and_changes_what_the_other_wrote(lake, cluster, monkeypatch):
    monkeypatch.setenv("STEDI_SPARK", "embedded")
    three_days(lake)
    before = lake.table("machine_learning_curated")
    assert lake.differences() == {}
    monkeypatch.setenv("STEDI_SPARK", cluster.remote)
    lake.put(landed("customer", DAYS[2], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    assert lake.differences() == {}
    assert lake.table("machine_learning_curated") != before
    monkeypatch.setenv("STEDI_SPARK", "embedded")
    lake.put(landed("customer", DAYS[2], "granted", person(1, 2, 1)))
    lake.catch_up()
    assert lake.differences() == {}
    assert lake.table("machine_learning_curated") == before


def test_erasure_leaves_nothing_of_what_spark_wrote_and_replaced(lake):
    from stedi_assets.definitions import io_manager

    columns = ", ".join(f"{c.name} {c.type}" for c in STEPS.columns)
    for device in ("withdrawn", "staying"):
        frame = io_manager.spark.spark_session.createDataFrame([(1, device, 1, DAY)], columns)
        io_manager.write(STEPS, frame, Dates(DAY, DAY))
    assert "withdrawn" in everything_in(lake, "trusted")
    erase(io_manager, timedelta(0))
    left = everything_in(lake, "trusted")
    assert "withdrawn" not in left
    assert "staying" in left
