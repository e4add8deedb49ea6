"""Why most of what landed is malformed, and times that cannot be: said without a value."""

from datetime import UTC, datetime

import pytest

from stedi_assets.landing.diagnosis import Diagnosis, diagnose, reason_of, shape_of, warnings_of
from stedi_assets.landing.record_parser import records_of
from stedi_assets.settings import load_settings
from stedi_assets.tables.plausible_times import TIME_COLUMNS, implausible_times
from stedi_assets.tables.schemas import ENTITIES, TABLES
from stedi_assets_tests.odd_data import ODD_LINES

CUSTOMER = ENTITIES["customer"]
NOW = datetime(2022, 7, 1, tzinfo=UTC)
MS = 1_655_564_400_000


@pytest.fixture(scope="module")
def spark(server):
    from stedi_assets.definitions import build_pipeline

    return build_pipeline(load_settings()).lakehouse.spark_session


def record(**fields: str) -> str:
    named = {"email": '"ann@example.com"', "serialNumber": '"s-1"'}
    named |= {"registrationDate": "1", "lastUpdateDate": "1"} | fields
    return "{" + ", ".join(f'"{name}": {value}' for name, value in named.items()) + "}"


@pytest.mark.parametrize(
    ("raw", "reason", "shape"),
    [
        (
            record(lastUpdateDate="1655564376361.5"),
            "lastUpdateDate is not an integer",
            '{"email": "…", "serialNumber": "…", "registrationDate": 0, "lastUpdateDate": 0.0}',
        ),
        (
            record(lastUpdateDate='"1655564376361"', secret='"x"'),
            "lastUpdateDate is not an integer",
            '{"email": "…", "serialNumber": "…", "registrationDate": 0, "lastUpdateDate": "…",'
            ' "…": "…"}',
        ),
        (
            record(email="null"),
            "email is missing",
            '{"email": null, "serialNumber": "…", "registrationDate": 0, "lastUpdateDate": 0}',
        ),
        (
            record(serialNumber='" "', phone="true"),
            "serialNumber is blank",
            '{"email": "…", "serialNumber": "", "registrationDate": 0, "lastUpdateDate": 0,'
            ' "phone": true}',
        ),
        (
            record(phone='["555 0100"]'),
            "phone is not text",
            '{"email": "…", "serialNumber": "…", "registrationDate": 0, "lastUpdateDate": 0,'
            ' "phone": […]}',
        ),
        (
            '[{"email": "ann@example.com"}]',
            "records stand in a JSON array, not one after another",
            '[{"email": "a·a.a"}]',
        ),
        (
            "Ann Éxample;ann@example.com;5550100",
            "it is not a JSON object",
            "a a;a·a.a;0",
        ),
        ("{'email': 'ann'}", "a JSON object is cut short or is not JSON", "{'a': 'a'}"),
        (
            "unreadable object landing/customer/ann@example.com.gz: gzip cut short",
            "an object cannot be read: gzip cut short",
            "an unreadable object",
        ),
    ],
)
def test_a_malformed_record_has_a_reason_and_a_shape_without_values(raw, reason, shape):
    assert reason_of(raw, CUSTOMER) == reason
    assert shape_of(raw, CUSTOMER) == shape


KEY = "landing/customer/ingest_date=2022-06-18/a: b.json"


@pytest.mark.parametrize(
    "reason",
    [
        "not gzip",
        "gzip cut short",
        "gzip damaged",
        "not UTF-8",
        "longer than 4096 bytes",
        "a record longer than 4096 bytes",
        "S3 refuses it (InvalidObjectState)",
    ],
)
def test_every_reason_of_the_contract_is_shown(reason):
    raw = f"unreadable object {KEY}: {reason}"
    assert reason_of(raw, CUSTOMER) == f"an object cannot be read: {reason}"
    assert shape_of(raw, CUSTOMER) == "an unreadable object"


@pytest.mark.parametrize(
    "raw",
    [
        "unreadable object report: name Ann Smith, born 1980-01-01, ann@example.com",
        f"unreadable object {KEY}: Ann",
        f"unreadable object {KEY}: not gzip Ann",
        f"unreadable object {KEY}: not gzip: Ann",
        f"unreadable object {KEY}: S3 refuses it (Ann Smith)",
        f"unreadable object {KEY}: S3 refuses it (Ann)",
        f"unreadable object {KEY}: not gzip\nAnn",
        "unreadable object Ann: longer than 15555550100 bytes",
        "unreadable object",
    ],
)
def test_text_that_only_begins_as_an_unreadable_object_is_not_quoted(raw):
    assert reason_of(raw, CUSTOMER) == "it is not a JSON object"
    assert not any(value in shape_of(raw, CUSTOMER) for value in ("Ann", "1980", "1555", "unread"))


def test_every_malformed_odd_line_has_a_reason_and_none_tells_a_value():
    for name, lines in ODD_LINES.items():
        entity = ENTITIES[name]
        types = {column.name: column.type for column in entity.fields}
        for line in lines:
            for found in records_of(line, types, sorted(entity.required), entity.aliases):
                if "_corrupt_record" in found:
                    raw = found["_corrupt_record"]
                    assert "well-formed" not in reason_of(raw, entity), raw
                    assert "example" not in shape_of(raw, entity)
                    assert "16555" not in shape_of(raw, entity)


def test_the_most_frequent_reason_is_given_with_its_share(spark):
    rows = [(record(lastUpdateDate="1.5"),)] * 3 + [("x",), (None,)]
    frame = spark.createDataFrame(rows, "_corrupt_record string")
    diagnosis = diagnose(frame, CUSTOMER)
    assert str(diagnosis).startswith("lastUpdateDate is not an integer (75% of the malformed rows)")
    assert diagnose(frame.where("_corrupt_record IS NULL"), CUSTOMER) is None


def test_empty_tables_and_mostly_malformed_ones_are_warned_of():
    rows = {"customer_landing": 10, "accelerometer_landing": 10, "customer_trusted": 0}
    malformed = {"customer_landing": 9, "accelerometer_landing": 5}
    asked = []

    def diagnosis_of(entity):
        asked.append(entity.name)
        return Diagnosis("email is missing", 1.0, "{}")

    assert warnings_of(rows, malformed, diagnosis_of) == [
        "9 of 10 rows of customer_landing are malformed."
        " Most often: email is missing (100% of the malformed rows), as in {}.",
        "customer_trusted is empty.",
    ]
    assert asked == ["customer"]


def test_times_that_cannot_be_milliseconds_or_lie_in_the_future_are_counted(spark):
    table = TABLES["customer_landing"]
    schema = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    nothing = dict.fromkeys(table.column_names)
    values = [MS, MS // 1000, MS * 1000, MS * 1_000_000, 2 * MS, 0, -1, None]
    rows = [nothing | {"lastUpdateDate": v, "shareWithResearchAsOfDate": v} for v in values]
    frame = spark.createDataFrame([tuple(row.values()) for row in rows], schema)
    counts = implausible_times(frame, table.name, NOW).collect()[0].asDict()
    assert {name: n for name, n in counts.items() if n} == {
        **{f"lastUpdateDate: {unit}": 1 for unit in ("seconds", "microseconds", "nanoseconds")},
        "lastUpdateDate: future": 1,
        "lastUpdateDate: too early": 2,
        "shareWithResearchAsOfDate: seconds": 1,
        "shareWithResearchAsOfDate: microseconds": 1,
        "shareWithResearchAsOfDate: nanoseconds": 1,
        "shareWithResearchAsOfDate: future": 1,
        "shareWithResearchAsOfDate: too early": 1,
    }
    assert all(
        set(columns) <= set(TABLES[name].column_names) for name, columns in TIME_COLUMNS.items()
    )
