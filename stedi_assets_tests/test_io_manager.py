"""Writes on real S3: scopes, refusals, races; and what a materialization tells."""

import threading
from datetime import date

import dagster as dg
import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F

from stedi_assets.definitions import build_pipeline
from stedi_assets.defs.metadata import PREVIEW_ROWS, preview
from stedi_assets.errors import StediError
from stedi_assets.lakehouse import tables as module
from stedi_assets.lakehouse.delta_log import read_log
from stedi_assets.lakehouse.tables import check_columns
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.tables.schemas import ENTITIES, TABLES
from stedi_assets_tests.odd_data import DATES, plain_objects

STEPS = TABLES["step_trainer_trusted"]
DAY = date(2022, 6, 18)


@pytest.fixture
def lakehouse(lake):
    return lake.pipeline.lakehouse


def steps(lakehouse, *days: date, count: int = 1):
    rows = [(n, f"d{n}", n, day) for day in days for n in range(count)]
    columns = "sensorReadingTime bigint, serialNumber string, distanceFromObject bigint"
    return lakehouse.spark_session.createDataFrame(rows, f"{columns}, ingest_date date")


def write(lakehouse, frame, *days: date, table=STEPS, rows: int | None = None) -> frozenset[str]:
    """rows: as few, the process writes by itself; None, the engine does."""
    with write_lock(lakehouse.store, table.name):
        return lakehouse.replace(table, frame, days or None, rows=rows)


def counts(lakehouse) -> dict[date, int]:
    lakehouse.refresh([STEPS])
    return lakehouse.log(STEPS).rows_by_date()


WAYS = pytest.mark.parametrize("rows", [0, None], ids=["this process", "the engine"])


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
    monkeypatch.setattr(module, "_MAX_VIEWS", 2)
    monkeypatch.setattr(module, "SMALL_ROWS", -1)
    frames = []
    for count in range(1, 5):
        write(lakehouse, steps(lakehouse, DAY, count=count), DAY)
        frames.append(lakehouse.read(STEPS))
    assert [frame.count() for frame in frames[2:]] == [3, 4]
    catalog = lakehouse.spark_session.catalog
    log = lakehouse.log(STEPS)
    name = f"{STEPS.name}_{log.table_id.replace('-', '')}_v"
    views = [f"{name}{log.version - n}" for n in range(4)]
    assert [catalog.tableExists(view) for view in views] == [True, True, False, False]


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
        own = build_pipeline(lake.settings).lakehouse
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
        own = build_pipeline(lake.settings).lakehouse
        frame = own.spark_session.createDataFrame(rows, columns)
        start.wait()
        write(own, frame, *days, table=table, rows=2)

    assert errors_of_threads([write_one] * 4) == []
    lakehouse.refresh([table])
    assert sum(file.rows for file in lakehouse.log(table).files) == len(rows)


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
    assert added == {file.path for file in lakehouse.log(STEPS).files}
    assert write(lakehouse, steps(lakehouse, DAY, count=0), date(2022, 6, 19)) == frozenset()


def test_a_table_never_materialized_says_which_asset_to_materialize(lakehouse):
    with pytest.raises(StediError, match=r"customer_trusted was never materialized.*--select"):
        lakehouse.read(TABLES["customer_trusted"])


def test_a_materialization_tells_counts_version_size_and_a_masked_preview(lake):
    lake.put(plain_objects())
    result = lake.materialize(DATES[0])
    told = {
        event.asset_key.path[-1]: event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    rows = {
        name: metadata.get("dagster/partition_row_count") or metadata.get("dagster/row_count")
        for name, metadata in told.items()
    }
    assert {n: v.value for n, v in rows.items()} == {
        n: sum(bag.values()) for n, bag in lake.expected().items()
    }
    for metadata in told.values():
        assert {"delta_version", "size", "dagster/uri", "preview"} <= set(metadata)
        assert "@" not in metadata["preview"].value


def test_a_range_run_tells_of_every_partition_what_is_its_own(lake):
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[1]))
    result = lake.materialize(DATES[0], DATES[1], "step_trainer_landing")
    told = {
        event.partition: event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey("step_trainer_landing")
    }
    assert set(told) == {str(DATES[0]), str(DATES[1])}
    for metadata in told.values():
        assert metadata["dagster/partition_row_count"].value == 100
        assert metadata["dagster/row_count"].value == 200
        assert metadata["files"].value == 1
    newest = told[str(DATES[1])]["preview"].value
    assert newest.count(f"| {DATES[1]} |") == PREVIEW_ROWS
    assert "preview" not in told[str(DATES[0])], "one read of S3 less for every other date"


def test_a_run_tells_on_the_landed_objects_what_it_was_built_from(lake):
    objects = plain_objects()
    lake.put(objects)
    result = lake.materialize(DATES[0], None, *(f"{entity}_landing" for entity in ENTITIES))
    told = {
        observed.asset_key.path[-1]: {n: v.value for n, v in observed.metadata.items()}
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION
        for observed in [event.event_specific_data.asset_observation]
    }
    for entity in ENTITIES:
        sizes = [len(body) for key, body in objects.items() if f"/{entity}/" in key]
        assert told[f"{entity}_objects"] == {"objects": len(sizes), "size": sum(sizes)}


def test_no_personal_value_of_the_data_is_in_any_event(lake):
    lake.put(plain_objects())
    key = f"landing/customer/ingest_date={DATES[0]}/bad.json"
    lake.put({key: b'{"email": "secret@example.com", "phone": 5550100'})
    result = lake.materialize(DATES[0])
    events = "\n".join(str(event) for event in result.all_events)
    for value in ("@example.com", "Ann Example", "5550100", "1990-01-01", "secret"):
        assert value not in events.lower()


def test_the_preview_hides_every_personal_column():
    table = TABLES["customer_trusted"]
    row = {c.name: f"value of {c.name}" for c in table.columns}
    shown = preview(table, [row])
    assert all(f"value of {name}" not in shown for name in table.personal_columns)
    assert "value of registrationDa" in shown
