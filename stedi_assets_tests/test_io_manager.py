"""Writes on real S3: scopes, refusals, races; and what a materialization tells."""

import threading
from datetime import date

import pyarrow.dataset as dataset
import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F

from stedi_assets.errors import StediError
from stedi_assets.lakehouse import session_views
from stedi_assets.lakehouse import tables as module
from stedi_assets.lakehouse.delta_log import read_log
from stedi_assets.lakehouse.local_files import LocalFiles
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.lakehouse.tables import check_columns
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.tables.schemas import TABLES

STEPS = TABLES["step_trainer_trusted"]
DAY = date(2022, 6, 18)
pytestmark = pytest.mark.every_engine


@pytest.fixture
def lakehouse(lake):
    return lake.pipeline.lakehouse


def steps(lakehouse, *days: date, count: int = 1):
    rows = [(n, f"d{n}", n, day) for day in days for n in range(count)]
    columns = "sensorReadingTime bigint, serialNumber string, distanceFromObject bigint"
    return lakehouse.spark_session.createDataFrame(rows, f"{columns}, ingest_date date")


def write(lakehouse, frame, *days: date, table=STEPS, rows: int | None = None) -> dict[str, str]:
    """rows: as few, the process writes by itself; None, the engine does."""
    with write_lock(lakehouse.store, table.name):
        return lakehouse.replace(table, frame, days or None, rows=rows)


def counts(lakehouse) -> dict[date, int]:
    lakehouse.refresh([STEPS])
    return lakehouse.log(STEPS).rows_by_date()


WAYS = pytest.mark.parametrize("rows", [0, None], ids=["this process", "the engine"])


def test_a_version_that_was_put_back_and_written_otherwise_is_read_as_it_is_now(
    lakehouse, monkeypatch
):
    monkeypatch.setattr(LocalFiles, "fit", lambda *_: False)
    store, folder = lakehouse.store, f"{STEPS.path}/_delta_log/"
    write(lakehouse, steps(lakehouse, DAY, count=1), DAY)
    before = {entry["Key"] for entry in store.objects(folder)}
    write(lakehouse, steps(lakehouse, DAY, count=2), DAY)
    assert lakehouse.read(STEPS).count() == 2
    store.delete({entry["Key"] for entry in store.objects(folder)} - before)
    lakehouse.refresh([STEPS])
    write(lakehouse, steps(lakehouse, DAY, count=3), DAY)
    assert lakehouse.read(STEPS).count() == 3


@WAYS
def test_a_write_replaces_just_its_dates(lakehouse, rows):
    days = [date(2022, 6, n) for n in (18, 19, 20)]
    write(lakehouse, steps(lakehouse, *days, count=3), *days, rows=rows)
    write(lakehouse, steps(lakehouse, days[1], count=5), days[1], rows=rows)
    assert counts(lakehouse) == {days[0]: 3, days[1]: 5, days[2]: 3}
    assert lakehouse.read(STEPS).count() == 11


@WAYS
def test_a_partition_with_no_rows_becomes_empty(lakehouse, rows):
    write(lakehouse, steps(lakehouse, DAY, count=3), DAY, rows=rows)
    write(lakehouse, steps(lakehouse, DAY).where("false"), DAY, rows=rows)
    assert counts(lakehouse) == {}
    assert lakehouse.read(STEPS).count() == 0


@WAYS
def test_rows_of_other_dates_are_left_out_of_a_write(lakehouse, rows):
    other = date(2022, 6, 19)
    write(lakehouse, steps(lakehouse, DAY, count=3), DAY, rows=rows)
    write(lakehouse, steps(lakehouse, DAY, other, count=2), DAY, rows=rows)
    assert counts(lakehouse) == {DAY: 2}


@WAYS
def test_delta_rs_and_the_engines_own_delta_reader_read_what_was_written(lakehouse, rows):
    write(lakehouse, steps(lakehouse, DAY, count=3), DAY, rows=rows)
    for n in range(12):  # a checkpoint lies in between
        write(lakehouse, steps(lakehouse, DAY, count=n), DAY, rows=rows)
    uri = lakehouse.store.settings.uri(STEPS.path)
    delta = DeltaTable(uri, storage_options=lakehouse.store.storage_options)
    assert delta.to_pyarrow_table().num_rows == 11
    by_device = dataset.field("serialNumber") == "d3"
    assert delta.to_pyarrow_dataset().count_rows(filter=by_device) == 1
    assert lakehouse.spark_session.read.format("delta").load(uri).count() == 11
    again = read_log(lakehouse.store, STEPS)
    assert again is not None
    assert (again.version, set(again.files)) == (delta.version(), set(lakehouse.log(STEPS).files))


def test_no_statistics_of_personal_columns_are_in_the_log(lakehouse):
    for rows in (0, None):
        write(lakehouse, steps(lakehouse, DAY, count=3), DAY, rows=rows)
    entries = lakehouse.store.objects(f"{STEPS.path}/_delta_log/")
    text = b"".join(lakehouse.store.get(entry["Key"])[0] for entry in entries)
    assert b"sensorReadingTime" in text
    assert b'"d0"' not in text


def test_a_long_lived_process_keeps_views_of_the_newest_versions_only(lakehouse, monkeypatch):
    monkeypatch.setattr(session_views, "MAX_VIEWS", 2)
    monkeypatch.setattr(module, "LOCAL_ROWS", -1)
    monkeypatch.setattr(LocalFiles, "fit", lambda *_: False)

    def views() -> set[str]:
        tables = lakehouse.spark_session.catalog.listTables()
        return {t.name for t in tables if t.name.startswith(f"{STEPS.name}_v")}

    before = views()
    frames = []
    for count in range(1, 5):
        write(lakehouse, steps(lakehouse, DAY, count=count), DAY)
        frames.append(lakehouse.read(STEPS))
    assert [frame.count() for frame in frames[2:]] == [3, 4]
    newest = lakehouse.log(STEPS).version
    kept = sorted(int(name.rpartition("_v")[2].partition("_")[0]) for name in views() - before)
    assert kept == [newest - 1, newest]


def test_columns_that_differ_from_the_contract_are_named(lakehouse):
    frame = steps(lakehouse, DAY)
    wrong = frame.drop("distanceFromObject").withColumn("more", F.lit(1))
    with pytest.raises(StediError, match="distanceFromObject is missing; more is not in the"):
        check_columns(STEPS, wrong)
    with pytest.raises(StediError, match="serialNumber is bigint, not string"):
        check_columns(STEPS, frame.withColumn("serialNumber", F.lit(1).cast("bigint")))


def test_concurrent_writes_to_neighbouring_and_the_same_dates_all_succeed(lake, lakehouse):
    days = [date(2022, 6, n) for n in (18, 19, 20, 18)]
    write(lakehouse, steps(lakehouse, *days[:3]), *days[:3])

    def write_one(day: date) -> None:
        own = another_process(lake)
        write(own, steps(own, day, count=4), day, rows=0)

    assert errors_of_threads([lambda day=day: write_one(day) for day in days]) == []
    assert counts(lakehouse) == dict.fromkeys(days, 4)


@pytest.mark.parametrize("days", [[DAY], []])
def test_concurrent_first_writes_leave_the_rows_of_one_of_them(lake, lakehouse, days):
    table = STEPS if days else TABLES["customers_curated"]
    row = {"bigint": 1, "string": "s", "date": DAY}
    columns = ", ".join(f"{c.name} {c.type}" for c in table.columns)
    rows = [tuple(row[c.type] for c in table.columns)] * 2
    start = threading.Barrier(4)

    def write_one() -> None:
        own = another_process(lake)
        frame = own.spark_session.createDataFrame(rows, columns)
        start.wait()
        write(own, frame, *days, table=table, rows=2)

    assert errors_of_threads([write_one] * 4) == []
    lakehouse.refresh([table])
    assert sum(file.rows for file in lakehouse.log(table).files) == len(rows)


def another_process(lake):
    """The lake's tables as another process knows them."""
    from stedi_assets.definitions import build_pipeline

    return build_pipeline(lake.settings).lakehouse


def errors_of_threads(work: list) -> list[Exception]:
    """What went wrong in some functions that run at the same time."""
    errors: list[Exception] = []

    def run(function) -> None:
        try:
            function()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_the_files_of_a_commit_are_found_by_what_the_write_returned(lakehouse):
    added = write(lakehouse, steps(lakehouse, DAY, count=3), DAY)
    assert added.keys() == {file.path for file in lakehouse.log(STEPS).files}
    listed = lakehouse.data_files(STEPS)
    assert added == {path: listed[path].etag for path in added}
    assert write(lakehouse, steps(lakehouse, DAY, count=0), date(2022, 6, 19)) == {}


def test_a_table_that_was_lost_and_made_again_is_another_and_read_anew(lakehouse):
    """On Apache Spark rows of the lost one's deleted file were asked for, for ever."""
    write(lakehouse, steps(lakehouse, DAY, count=3), DAY)
    lost = lakehouse.log(STEPS)
    assert lakehouse.read(STEPS).count() == 3
    lakehouse.store.delete_below(f"{STEPS.path}/")
    lakehouse.refresh([STEPS])
    write(lakehouse, steps(lakehouse, DAY, count=5), DAY)
    made = lakehouse.log(STEPS)
    assert (made.version, made.table_id == lost.table_id) == (lost.version, False)
    assert len(lakehouse.read(STEPS).collect()) == 5


def test_a_table_never_materialized_says_which_asset_to_materialize(lakehouse):
    with pytest.raises(StediError, match=r"customer_trusted was never materialized.*--select"):
        lakehouse.read(TABLES["customer_trusted"])


def test_a_commit_whose_answer_was_lost_is_a_commit(lakehouse, monkeypatch):
    """The put got there, its answer did not, and the client asked again."""
    client = lakehouse.store.client
    put_object = client.put_object

    def put_twice(**arguments):
        if "_delta_log/" in arguments["Key"]:
            put_object(**arguments)
        return put_object(**arguments)

    monkeypatch.setattr(client, "put_object", put_twice)
    write(lakehouse, steps(lakehouse, DAY, count=3), DAY, rows=0)
    assert counts(lakehouse) == {DAY: 3}


def test_a_checkpoint_that_s3_refuses_fails_no_write(lakehouse, monkeypatch):
    """The rows are committed by then, and a checkpoint only saves reading."""
    refused = {**lakehouse.store.storage_options, "AWS_SECRET_ACCESS_KEY": "wrong"}
    monkeypatch.setattr(ObjectStore, "storage_options", refused)
    for count in range(1, 12):
        write(lakehouse, steps(lakehouse, DAY, count=count), DAY, rows=0)
    assert counts(lakehouse) == {DAY: 11}
