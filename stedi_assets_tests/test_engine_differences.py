"""What the engines compute differently comes out the same on whichever STEDI_SPARK names."""

import gzip
import threading
from collections import Counter
from datetime import date

import pytest
from pyspark.sql import functions as F

from stedi_assets.incremental.inputs import list_days, read_objects
from stedi_assets.lakehouse.dates import on_days
from stedi_assets.spark import dialect as differences
from stedi_assets.tables.rules import current_records, normalized_email
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.odd_data import T0, compact

DAY = date(2022, 6, 18)
READING = '{"user":"a@example.com","timestamp":1655564400000,"x":%s,"y":2,"z":3}'
STEPS = TABLES["step_trainer_trusted"]


pytestmark = pytest.mark.every_engine


@pytest.fixture
def lakehouse(lake):
    return lake.pipeline.lakehouse


@pytest.fixture
def spark(lakehouse):
    return lakehouse.spark_session


@pytest.fixture
def readings(lake, lakehouse):
    """Lands objects of phone readings, by name; the rows that the engine reads from them."""

    def land(**objects: bytes):
        names = {name: name.replace("_gz", ".gz") for name in objects}
        folder = f"landing/accelerometer/ingest_date={DAY}"
        lake.put({f"{folder}/{names[name]}": body for name, body in objects.items()})
        landing = TABLES["accelerometer_landing"]
        listings, _ = list_days(lakehouse, landing, [DAY])
        return read_objects(lakehouse, landing, listings).frame.collect()

    return land


def test_objects_in_one_line_are_records_each(readings):
    rows = readings(a=(READING % 1 + READING % 2 + "\n" + READING % 3).encode())
    assert Counter(row.x for row in rows) == Counter([1.0, 2.0, 3.0])


@pytest.mark.parametrize("x", ["NaN", "1e400", "'1'", '"1"', "01"])
def test_a_number_that_is_none_makes_a_record_malformed(readings, x):
    (row,) = readings(a=(READING % x).encode())
    assert row.x is None
    assert row.user is None
    assert row["_corrupt_record"] == READING % x


def test_text_after_an_object_is_a_malformed_record_of_its_own(readings):
    rows = readings(a=(READING % 1 + " and more").encode())
    assert [(row.x, row["_corrupt_record"]) for row in rows] == [(1.0, None), (None, "and more")]


def test_one_unreadable_object_among_many_leaves_the_others_readable(readings):
    rows = readings(a=(READING % 1).encode(), b=(READING % 2).encode("utf-16"), c_gz=b"not gzip")
    assert sorted(row.x for row in rows if row.x) == [1.0]
    assert sum("unreadable object" in (row["_corrupt_record"] or "") for row in rows) == 2


def test_gzipped_and_plain_objects_of_a_day_are_read_together(readings):
    rows = readings(a=(READING % 1).encode(), b_gz=gzip.compress((READING % 2).encode()))
    assert sorted(row.x for row in rows) == [1.0, 2.0]


def test_names_are_case_sensitive_and_the_proper_one_beats_the_old_one(readings):
    both = (READING % 1).replace('"x"', '"timeStamp":5,"x"')
    old = (READING % 2).replace("timestamp", "timeStamp")
    neither = (READING % 3).replace("timestamp", "TIMESTAMP")
    rows = readings(a="\n".join([both, old, neither]).encode())
    assert sorted((row.x, row.timestamp) for row in rows if row.x) == [(1.0, T0), (2.0, T0)]
    assert sum(row["_corrupt_record"] is not None for row in rows) == 1


@pytest.mark.parametrize("beside", ["", "\n[]"])  # read by read.json, and as text
def test_doubles_are_exact_to_the_last_digit(readings, beside):
    texts = ["0.1", "123456789.123456789", "-1e-7", "7.4850988", "3.141592653589793"]
    rows = readings(a=("\n".join(READING % text for text in texts) + beside).encode())
    assert sorted(row.x for row in rows if row.x) == sorted(map(float, texts))


def test_negative_zero_is_zero(spark):
    rows = spark.createDataFrame([(0.0,), (-0.0,)], "x double")
    zeros = rows.select(differences.without_negative_zero("x").alias("x")).distinct().collect()
    assert [str(row.x) for row in zeros] == ["0.0"]


def test_all_white_space_around_an_email_is_trimmed_and_no_other(spark):
    rows = spark.createDataFrame([(" \t\r\nA@example.com\n",), ("\u00a0B",)], "email string")
    emails = rows.select(normalized_email("email").alias("email")).collect()
    assert {row.email for row in emails} == {"a@example.com", "\u00a0b"}


def test_at_a_tie_the_record_without_consent_is_the_current_one(spark):
    columns = [(c.name, c.type) for c in TABLES["customer_landing"].columns]
    schema = ", ".join(f"{name} {kind}" for name, kind in columns)
    record = {name: None for name, _ in columns}
    record |= {"email": "a@example.com", "serialNumber": "d", "lastUpdateDate": 1}
    record |= {"registrationDate": 1, "ingest_date": DAY}
    rows = [
        tuple((record | {"shareWithResearchAsOfDate": share}).values()) for share in (5, None, 0)
    ]
    (current,) = current_records(spark.createDataFrame(rows, schema)).collect()
    assert current.shareWithResearchAsOfDate == 0


def steps(spark, day: date, count: int):
    rows = [(n, "d", n, day) for n in range(count)]
    columns = ", ".join(f"{c.name} {c.type}" for c in STEPS.columns)
    return spark.createDataFrame(rows, columns)


def test_a_row_outside_what_is_written_is_left_out(lakehouse, spark):
    other = date(2022, 6, 19)
    lakehouse.replace(STEPS, steps(spark, DAY, 3), [DAY])
    lakehouse.replace(STEPS, steps(spark, other, 1), [DAY])
    assert lakehouse.read(STEPS).count() == 0


def test_an_older_version_of_a_table_can_be_read(lake, lakehouse, spark):
    lakehouse.replace(STEPS, steps(spark, DAY, 3), [DAY])
    before = lakehouse.log(STEPS).version
    lakehouse.replace(STEPS, steps(spark, DAY, 1), [DAY])
    reader = spark.read.format("delta").option("versionAsOf", str(before))
    assert reader.load(lake.settings.uri(STEPS.path)).count() == 3


def test_a_write_that_lost_a_race_is_told_from_other_failures(lake, lakehouse, spark):
    uri = lake.settings.uri(STEPS.path)
    lakehouse.replace(STEPS, steps(spark, DAY, 1), [DAY])
    errors: list[Exception] = []

    def write() -> None:
        try:
            frame = steps(spark, DAY, 1).withColumn("serialNumber", F.lit("e"))
            writer = frame.write.format("delta").mode("overwrite")
            writer.option("replaceWhere", on_days([DAY])).save(uri)
        except Exception as error:
            errors.append(error)

    for _ in range(5):  # two overwrites of the same partition, with no lock between them
        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            break
    assert errors, "the writes overlap"
    assert all(differences.is_lost_race(error) for error in errors)
    with pytest.raises(Exception, match="no_such_column") as other:
        spark.sql("SELECT no_such_column").collect()
    assert not differences.is_lost_race(other.value)


def test_odd_and_plain_records_of_a_day_come_out_alike(readings):
    plain, odd = READING % 1, compact({"note": {"a": 1}}) + READING % 1
    rows = readings(a=f"{plain}\n{odd}".encode())
    assert [row.x for row in rows if row.x] == [1.0, 1.0]
