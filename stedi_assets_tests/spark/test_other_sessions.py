"""Classic sessions, whose driver is a JVM of the run's process; both engines on one lake."""

import os
import subprocess
import sys
from datetime import timedelta

from stedi_assets.privacy.vacuum import purge
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


def run_script(code: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Python code in a process of its own, whose driver is a JVM of that process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment("local[2]") | environ,
        capture_output=True,
        text=True,
    )


def materialize(engine: str, first, last) -> "subprocess.CompletedProcess[str]":
    dagster = ["dagster", "asset", "materialize", "-m", "stedi_assets.definitions"]
    return run(engine, *dagster, "--select", "*", "--partition-range", f"{first}...{last}")


def test_odd_data_on_local_gives_the_reference_tables_and_no_key_is_logged(lake):
    lake.put(odd_objects(7))
    done = materialize("local[2]", DATES[0], DATES[-1])
    assert lake.differences() == {}
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
    assert lake.settings.salt() not in done.stdout + done.stderr


LOST_AND_MADE_AGAIN = """
from stedi_assets.definitions import pipeline
from stedi_assets.tables.schemas import TABLES

lakehouse, table = pipeline.lakehouse, TABLES["customers_curated"]
columns = ", ".join(f"{c.name} {c.type}" for c in table.columns)
row = tuple("ann@example.com" if c.name == "email" else None for c in table.columns)
for _ in range(2):
    frame = lakehouse.spark_session.createDataFrame([row], columns)
    lakehouse.replace(table, frame, None)
    assert lakehouse.read(table).count() == 1
    lakehouse.store.delete_below(f"{table.path}/")
    lakehouse.refresh([table])
try:
    lakehouse.spark_session.sql("SELECT raise_error('ann@example.com')").collect()
except Exception:
    print("failed")
"""


def test_spark_logs_no_value_of_a_table_made_again_nor_of_a_task_that_fails(lake):
    done = run_script(LOST_AND_MADE_AGAIN)
    assert done.stdout == "failed\n", done.stderr[-3000:]
    assert "example.com" not in done.stderr


FILES_OF_A_SESSION = """
from stedi_assets.definitions import pipeline
from stedi_assets.scratch import scratch_folder
from stedi_assets.tables.schemas import TABLES

lakehouse, table = pipeline.lakehouse, TABLES["customers_curated"]
columns = ", ".join(f"{c.name} {c.type}" for c in table.columns)
lakehouse.replace(table, lakehouse.spark_session.createDataFrame([], columns), None)
print(*sorted({path.name.split("-")[0] for path in scratch_folder().iterdir()}))
"""


def test_a_local_session_keeps_rows_in_the_scratch_folder_which_goes_with_it(lake, tmp_path):
    done = run_script(FILES_OF_A_SESSION, TMPDIR=str(tmp_path))
    # (Java's own temporary files among them: compression is a library that it unpacks there.)
    assert {"blockmgr", "liblz4", "s3a", "spark"} <= set(done.stdout.split()), done.stderr[-3000:]
    assert list(tmp_path.glob("stedi-scratch-*")) == []


JAVA_KILLED = """
import signal
from pyspark import SparkContext
from stedi_assets.lakehouse.query import run_query
from stedi_assets.definitions import pipeline

def ask():
    try:
        print(run_query(pipeline.lakehouse, "SELECT 1 AS a").to_pylist())
    except Exception as error:
        print(type(error).__name__)

ask()
SparkContext._gateway.proc.send_signal(signal.SIGKILL)
ask()
ask()
"""


def test_a_jvm_that_was_killed_is_replaced_by_another(lake):
    done = run_script(JAVA_KILLED)
    assert done.stdout == "[{'a': 1}]\n" * 3, done.stderr[-3000:]


def test_a_driver_on_the_clusters_master_gives_the_reference_tables(lake, cluster):
    lake.put(plain_objects(8))
    materialize(cluster.master, DATES[0], DATES[0])
    assert lake.differences() == {}


def test_each_engine_reads_and_changes_what_the_other_wrote(lake):
    on_spark, lake = lake, lake.on("embedded")
    three_days(lake)
    before = lake.table("machine_learning_curated")
    assert lake.differences() == {}
    lake.put(landed("customer", DAYS[2], "withdrawn", person(1, 1, None)))
    on_spark.catch_up()
    assert lake.differences() == {}
    assert lake.table("machine_learning_curated") != before
    lake.put(landed("customer", DAYS[2], "granted", person(1, 2, 1)))
    lake.catch_up()
    assert lake.differences() == {}
    assert lake.table("machine_learning_curated") == before


def test_erasure_leaves_nothing_of_what_spark_wrote_and_replaced(lake):
    lakehouse = lake.pipeline.lakehouse
    columns = ", ".join(f"{c.name} {c.type}" for c in STEPS.columns)
    for device in ("withdrawn", "staying"):
        frame = lakehouse.spark_session.createDataFrame([(1, device, 1, DAY)], columns)
        lakehouse.replace(STEPS, frame, [DAY])
    assert "withdrawn" in everything_in(lake, "trusted")
    purge(lake.pipeline, timedelta(0))
    left = everything_in(lake, "trusted")
    assert "withdrawn" not in left
    assert "staying" in left
