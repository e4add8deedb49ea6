"""A summary, however it came about, gives what the whole table would."""

from collections import Counter
from datetime import date

import pytest

from stedi_assets.defs.io_managers import Dates
from stedi_assets.incremental.rollups import (
    CURRENT_RECORDS,
    TRUSTED_DATES_OF_USERS,
    Summary,
    summarized,
)
from stedi_assets.tables.schemas import TABLES, spark_schema
from stedi_assets_tests.test_catch_up import landed, person, phone

READINGS, CUSTOMERS = TABLES["accelerometer_trusted"], TABLES["customer_landing"]
DAYS = [date(2022, 6, 29), date(2022, 6, 30), date(2022, 7, 1), date(2022, 7, 2)]
MILLISECONDS_A_DAY = 86_400_000


@pytest.fixture
def manager(lake):
    from stedi_assets.definitions import io_manager

    return io_manager


def write(manager, table, day: date, rows: list[tuple]) -> None:
    schema = spark_schema(table.columns)
    frame = manager.spark.spark_session.createDataFrame([(*row, day) for row in rows], schema)
    manager.write(table, frame, Dates(day, day))


def readings(manager, day: date, *users: str, moment: int = 5) -> None:
    write(
        manager, READINGS, day, [(user, moment, 0.0, 0.0, float(n)) for n, user in enumerate(users)]
    )


def customers(manager, day: date, *records: tuple[str, int]) -> None:
    rows = [
        (None, email, None, None, "d", 1, updated, None, None, None, None)
        for email, updated in records
    ]
    write(manager, CUSTOMERS, day, rows)


def as_a_whole(manager, summary: Summary) -> Counter:
    return Counter(map(tuple, summary.reduce(manager.read(summary.source)).collect()))


def kept(manager, summary: Summary) -> Counter:
    return Counter(map(tuple, summarized(manager, summary).collect()))


def test_new_dates_are_added_and_rewritten_and_emptied_ones_replaced(manager):
    for day in DAYS:
        readings(manager, day, "a", "a", f"only on {day}")
        assert kept(manager, TRUSTED_DATES_OF_USERS) == as_a_whole(manager, TRUSTED_DATES_OF_USERS)
    readings(manager, DAYS[0], "b")
    readings(manager, DAYS[2])
    found = kept(manager, TRUSTED_DATES_OF_USERS)
    assert {row[:2] for row in found} == {
        ("b", DAYS[0]),
        *((user, day) for day in (DAYS[1], DAYS[3]) for user in ("a", f"only on {day}")),
    }
    readings(manager, DAYS[0])
    readings(manager, DAYS[1])
    assert kept(manager, TRUSTED_DATES_OF_USERS) == as_a_whole(manager, TRUSTED_DATES_OF_USERS)


def test_an_older_record_comes_back_where_the_date_of_a_newer_one_was_emptied(manager):
    customers(manager, DAYS[0], ("a", 1), ("b", 1))
    customers(manager, DAYS[1], ("a", 2))
    customers(manager, DAYS[2], ("c", 1))
    assert {row[1]: row[6] for row in kept(manager, CURRENT_RECORDS)} == {"a": 2, "b": 1, "c": 1}
    customers(manager, DAYS[1])
    assert {row[1]: row[6] for row in kept(manager, CURRENT_RECORDS)} == {"a": 1, "b": 1, "c": 1}


def test_a_summary_that_another_wrote_or_whose_description_is_lost_is_made_anew(manager):
    for day in DAYS:
        readings(manager, day, "a", "b")
    right = kept(manager, TRUSTED_DATES_OF_USERS)
    summary = TRUSTED_DATES_OF_USERS
    manager.replace(summary.table, manager.read(summary.table).where("user = 'a'"))
    assert kept(manager, summary) == right
    manager.lake.delete([summary.made_of])
    manager.replace(summary.table, manager.read(summary.table).where("user = 'a'"))
    assert kept(manager, summary) == right


def test_dates_with_nothing_well_formed_are_summed_up_too(lake):
    lake.put(landed("customer", DAYS[0], "c", "not a record"))
    lake.put(landed("accelerometer", DAYS[0], "a", "not a record"))
    lake.catch_up()
    lake.put(landed("customer", DAYS[1], "c", person(1, 0, 1)))
    lake.put(landed("accelerometer", DAYS[2], "a", phone(1, 0)))
    lake.catch_up()
    assert lake.differences() == {}


def test_a_straggler_does_not_have_all_of_history_read(manager):
    for n, day in enumerate(DAYS[:3]):
        readings(manager, day, "a", moment=n * 10 * MILLISECONDS_A_DAY)
    moments = [0, 30 * MILLISECONDS_A_DAY]
    write(manager, READINGS, DAYS[3], [("a", moment, 0.0, 0.0, 0.0) for moment in moments])
    found = manager.read_up_to(READINGS, Dates(DAYS[3], DAYS[3]), [READINGS.name])
    assert sorted(row.ingest_date for row in found.collect()) == [DAYS[0], DAYS[3], DAYS[3]]
