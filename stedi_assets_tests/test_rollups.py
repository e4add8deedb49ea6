"""A roll-up, however it came about, gives what the whole table would."""

from collections import Counter
from datetime import date

import pytest

from stedi_assets.incremental.inputs import read_with_lookback
from stedi_assets.incremental.ledger import Ledger, LedgerEntry, contents_of, files_of
from stedi_assets.incremental.rollups import CURRENT_RECORDS, DATES_OF_USERS, Rollup, rolled_up
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.tables.schemas import TABLES, spark_schema
from stedi_assets_tests.test_catch_up import landed, person, phone

READINGS, CUSTOMERS = TABLES["accelerometer_landing"], TABLES["customer_landing"]
DAYS = [date(2022, 6, 29), date(2022, 6, 30), date(2022, 7, 1), date(2022, 7, 2)]
MILLISECONDS_A_DAY = 86_400_000


@pytest.fixture
def lakehouse(lake) -> Lakehouse:
    return lake.pipeline.lakehouse


def write(lakehouse, table, day: date, rows: list[tuple]) -> None:
    schema = spark_schema(table.columns)
    frame = lakehouse.spark_session.createDataFrame([(*row, None, day) for row in rows], schema)
    with write_lock(lakehouse.store, table.name):
        lakehouse.replace(table, frame, [day], rows=len(rows))


def readings(lakehouse, day: date, *users: str, moment: int = 5) -> None:
    rows = [(user, moment, 0.0, 0.0, float(n)) for n, user in enumerate(users)]
    write(lakehouse, READINGS, day, rows)


def customers(lakehouse, day: date, *records: tuple[str, int]) -> None:
    rows = [
        (None, email, None, None, "d", 1, updated, None, None, None) for email, updated in records
    ]
    write(lakehouse, CUSTOMERS, day, rows)


def as_a_whole(lakehouse, rollup: Rollup) -> Counter:
    return Counter(map(tuple, rollup.reduce(lakehouse.read(rollup.source)).collect()))


def kept(lakehouse, rollup: Rollup) -> Counter:
    source, log = rollup.source.name, lakehouse.log(rollup.source)
    etags = {path: file.etag for path, file in lakehouse.data_files(rollup.source).items()}
    contents = {
        day: contents_of({file.path: etags[file.path] for file in files})
        for day, files in log.by_date.items()
    }
    entries = {day: LedgerEntry({}, files_of(log, day), of) for day, of in contents.items()}
    ledgers = {source: Ledger(log.table_id, entries)}
    frame = rolled_up(lakehouse, rollup, {source: log}, ledgers).frame
    return Counter(map(tuple, frame.collect()))


def test_new_dates_are_added_and_rewritten_and_emptied_ones_replaced(lakehouse):
    for day in DAYS:
        readings(lakehouse, day, "a", "a", f"only on {day}")
        assert kept(lakehouse, DATES_OF_USERS) == as_a_whole(lakehouse, DATES_OF_USERS)
    readings(lakehouse, DAYS[0], "b")
    readings(lakehouse, DAYS[2])
    found = kept(lakehouse, DATES_OF_USERS)
    assert {(row[0], row[2]) for row in found} == {
        ("b", DAYS[0]),
        *((user, day) for day in (DAYS[1], DAYS[3]) for user in ("a", f"only on {day}")),
    }
    readings(lakehouse, DAYS[0])
    readings(lakehouse, DAYS[1])
    assert kept(lakehouse, DATES_OF_USERS) == as_a_whole(lakehouse, DATES_OF_USERS)


def test_an_older_record_comes_back_where_the_date_of_a_newer_one_was_emptied(lakehouse):
    customers(lakehouse, DAYS[0], ("a", 1), ("b", 1))
    customers(lakehouse, DAYS[1], ("a", 2))
    customers(lakehouse, DAYS[2], ("c", 1))
    assert {row[1]: row[6] for row in kept(lakehouse, CURRENT_RECORDS)} == {"a": 2, "b": 1, "c": 1}
    customers(lakehouse, DAYS[1])
    assert {row[1]: row[6] for row in kept(lakehouse, CURRENT_RECORDS)} == {"a": 1, "b": 1, "c": 1}


def test_a_rollup_that_another_wrote_or_whose_manifest_is_lost_is_made_anew(lakehouse):
    for day in DAYS:
        readings(lakehouse, day, "a", "b")
    right = kept(lakehouse, DATES_OF_USERS)
    table = DATES_OF_USERS.table
    lakehouse.replace(table, lakehouse.read(table).where("user = 'a'"), None)
    assert kept(lakehouse, DATES_OF_USERS) == right
    lakehouse.store.delete([DATES_OF_USERS.manifest])
    lakehouse.replace(table, lakehouse.read(table).where("user = 'a'"), None)
    assert kept(lakehouse, DATES_OF_USERS) == right


def test_dates_with_nothing_well_formed_are_rolled_up_too(lake):
    lake.put(landed("customer", DAYS[0], "c", "not a record"))
    lake.put(landed("accelerometer", DAYS[0], "a", "not a record"))
    lake.catch_up()
    lake.put(landed("customer", DAYS[1], "c", person(1, 0, 1)))
    lake.put(landed("accelerometer", DAYS[2], "a", phone(1, 0)))
    lake.catch_up()
    assert lake.differences() == {}


def test_a_straggler_does_not_have_all_of_history_read(lake, lakehouse):
    for n, day in enumerate(DAYS[:3]):
        readings(lakehouse, day, "a", moment=n * 10 * MILLISECONDS_A_DAY)
    moments = [0, 30 * MILLISECONDS_A_DAY]
    write(lakehouse, READINGS, DAYS[3], [("a", moment, 0.0, 0.0, 0.0) for moment in moments])
    state = lake.pipeline.state(with_membership=False)
    found = read_with_lookback(lakehouse, state, READINGS, [DAYS[3]], [READINGS.name])
    assert sorted(row.ingest_date for row in found.frame.collect()) == [DAYS[0], DAYS[3], DAYS[3]]
