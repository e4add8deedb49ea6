"""The IO manager on real S3: scopes, refusals, retries, and what a materialization tells."""

import threading
from datetime import date

import pytest
from pyspark.sql import functions as F

from stedi_assets.defs import io_managers as module
from stedi_assets.defs.io_managers import Dates, check_columns, first_line
from stedi_assets.errors import StediError
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.odd_data import DATES

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


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Cast error: Cannot cast string 'O'Brien' to Int64", "Cast error: Cannot cast string '…'"),
        ("[CAST_INVALID_INPUT] The value 'Ann of type", "[CAST_INVALID_INPUT] The value '…'"),
        ("[USER_RAISED_EXCEPTION] Ann", "the engine failed with a message that may hold data"),
        ("Ann Example", "the engine failed with a message that may hold data"),
        ("Failed to parse a@example.com\nAnn", "Failed to parse …"),
        ("Generic S3 error: No space left on device", "Generic S3 error: No space left on device"),
    ],
)
def test_an_engines_message_is_shown_without_what_it_quotes(message, shown):
    line = first_line(message)
    assert line.startswith(shown)
    assert not any(name in line for name in ("Ann", "Brien", "a@"))
