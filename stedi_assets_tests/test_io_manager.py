"""The IO manager on real S3: scopes, refusals, retries, and what a materialization tells."""

import threading
from datetime import date

import dagster as dg
import pytest
from pyspark.sql import functions as F

from stedi_assets.defs import io_managers as module
from stedi_assets.defs.io_managers import Dates, check_columns
from stedi_assets.defs.metadata import PREVIEW_ROWS, preview
from stedi_assets.errors import StediError
from stedi_assets.tables.schemas import ENTITIES, TABLES
from stedi_assets_tests.odd_data import DATES, plain_objects

STEPS = TABLES["step_trainer_trusted"]
DAY = date(2022, 6, 18)


@pytest.fixture
def manager(lake):
    from stedi_assets.definitions import io_manager

    return io_manager


def steps(manager, *days: date, count: int = 1):
    rows = [(n, f"d{n}", n, day) for day in days for n in range(count)]
    columns = "sensorReadingTime bigint, serialNumber string, distanceFromObject bigint"
    return manager.spark.spark_session.createDataFrame(rows, f"{columns}, ingest_date date")


def counts(manager) -> dict[date, int]:
    return manager.lake.log(STEPS).rows_by_date()


def test_a_write_replaces_just_its_dates(manager):
    days = [date(2022, 6, n) for n in (18, 19, 20)]
    manager.write(STEPS, steps(manager, *days, count=3), Dates(days[0], days[2]))
    manager.write(STEPS, steps(manager, days[1], count=5), Dates(days[1], days[1]))
    assert counts(manager) == {days[0]: 3, days[1]: 5, days[2]: 3}


def test_a_partition_with_no_rows_becomes_empty(manager):
    manager.write(STEPS, steps(manager, DAY, count=3), Dates(DAY, DAY))
    manager.write(STEPS, steps(manager, DAY).where("false"), Dates(DAY, DAY))
    assert counts(manager) == {}
    assert manager.read(STEPS).count() == 0


def test_a_row_outside_the_dates_is_refused_by_its_date_and_nothing_is_written(manager):
    manager.write(STEPS, steps(manager, DAY, count=3), Dates(DAY, DAY))
    with pytest.raises(StediError, match=r"ingest_date 2022-06-19, outside the dates .*2022-06-18"):
        manager.write(STEPS, steps(manager, date(2022, 6, 19)), Dates(DAY, DAY))
    assert counts(manager) == {DAY: 3}


def test_a_long_lived_process_keeps_views_of_the_newest_versions_only(manager, monkeypatch):
    monkeypatch.setattr(module, "_MOST_VERSIONS", 2)
    frames = []
    for count in range(1, 5):
        manager.write(STEPS, steps(manager, DAY, count=count), Dates(DAY, DAY))
        frames.append(manager.read(STEPS))
    assert [frame.count() for frame in frames[2:]] == [3, 4]
    catalog = manager.spark.spark_session.catalog
    table = manager.lake.log(STEPS)
    name = f"{STEPS.name}_{table.table_id.replace('-', '')}_v"
    views = [f"{name}{table.version - n}" for n in range(4)]
    assert [catalog.tableExists(view) for view in views] == [True, True, False, False]


def test_a_long_lived_process_does_not_remember_every_step_that_failed(lake, monkeypatch):
    def fail(*_arguments):
        raise StediError("it fails")

    monkeypatch.setattr(module, "_MOST_REMEMBERED", 2)
    monkeypatch.setattr(module, "read_days", fail)
    for _ in range(4):
        with pytest.raises(StediError, match="it fails"):
            lake.materialize(DATES[0], DATES[0], "customer_landing")
    assert len(module._LISTINGS) == 2


def test_columns_that_differ_from_the_contract_are_named(manager):
    frame = steps(manager, DAY)
    wrong = frame.drop("distanceFromObject").withColumn("more", F.lit(1))
    with pytest.raises(StediError, match="distanceFromObject is missing; more is not in the"):
        check_columns(STEPS, wrong)
    with pytest.raises(StediError, match="serialNumber is bigint, not string"):
        check_columns(STEPS, frame.withColumn("serialNumber", F.lit(1).cast("bigint")))


def test_concurrent_writes_to_neighbouring_and_the_same_dates_all_succeed(manager):
    days = [date(2022, 6, n) for n in (18, 19, 20, 18)]
    manager.write(STEPS, steps(manager, *days[:3]), Dates(days[0], days[2]))
    errors: list[Exception] = []

    def write(day: date) -> None:
        try:
            manager.write(STEPS, steps(manager, day, count=4), Dates(day, day))
        except StediError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(day,)) for day in days]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert counts(manager) == dict.fromkeys(days, 4)


@pytest.mark.parametrize("dates", [Dates(DAY, DAY), None])
def test_concurrent_first_writes_leave_the_rows_of_one_of_them(manager, dates):
    table = STEPS if dates else TABLES["customers_curated"]
    row = {"bigint": 1, "string": "s", "date": DAY}
    columns = ", ".join(f"{c.name} {c.type}" for c in table.columns)
    rows = [tuple(row[c.type] for c in table.columns)] * 2
    start = threading.Barrier(4)
    errors: list[Exception] = []

    def write() -> None:
        frame = manager.spark.spark_session.createDataFrame(rows, columns)
        start.wait()
        try:
            manager.write(table, frame, dates)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(file.rows for file in manager.lake.log(table).files) == len(rows)


def test_the_files_of_a_commit_are_found_by_its_token(manager):
    token = manager.write(STEPS, steps(manager, DAY, count=3), Dates(DAY, DAY))
    mine = {file.path for file in manager.lake.log(STEPS).files}
    nothing = steps(manager, DAY, count=0)
    other = manager.write(STEPS, nothing, Dates(date(2022, 6, 19), date(2022, 6, 19)))
    manager.write(STEPS, steps(manager, DAY, count=4), Dates(DAY, DAY))
    assert manager.lake.added(STEPS, token, after=-1) == dict.fromkeys(mine, DAY)
    assert manager.lake.added(STEPS, other, after=-1) == {}


def test_a_table_never_materialized_says_which_asset_to_materialize(manager):
    with pytest.raises(StediError, match=r"customer_trusted was never materialized.*--select"):
        manager.read(TABLES["customer_trusted"])


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
    for day, metadata in told.items():
        assert metadata["dagster/partition_row_count"].value == 100
        assert metadata["dagster/row_count"].value == 200
        assert metadata["files"].value == len(
            lake.lake.log("step_trainer_landing").of(
                date.fromisoformat(day), date.fromisoformat(day)
            )
        )
        assert metadata["preview"].value.count(f"| {day} |") == PREVIEW_ROWS


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
