"""Nothing of a person who left is in any object under trusted/ and curated/, each one decoded."""

import gzip
import io
import json
import re
import threading
import uuid
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from stedi_assets import erasure
from stedi_assets.cli import main
from stedi_assets.io_manager import Dates
from stedi_assets.person import Person
from stedi_assets.schemas import TABLES
from stedi_assets.settings import today
from stedi_assets_tests.conftest import TestLake
from stedi_assets_tests.test_catch_up import DATES, device, landed, person, phone, three_days


def decoded(key: str, body: bytes) -> str:
    """An object as text: parquet decoded with its statistics, checkpoints among it."""
    if not key.endswith(".parquet"):
        return f"{key} {body!r}"
    table = pq.read_table(io.BytesIO(body))
    metadata = pq.ParquetFile(io.BytesIO(body)).metadata
    columns = [
        str(metadata.row_group(g).column(c).statistics)
        for g in range(metadata.num_row_groups)
        for c in range(metadata.num_columns)
    ]
    return f"{key} {table.to_pylist()} {columns}"


def everything_in(lake, *zones: str) -> str:
    """Every version of every object under some prefixes as text."""
    client, bucket = lake.lake.client, lake.lake.settings.bucket
    texts = []
    for zone in zones:
        pages = client.get_paginator("list_object_versions").paginate(
            Bucket=bucket, Prefix=lake.lake.settings.key(f"{zone}/".lstrip("/"))
        )
        for found in (one for page in pages for one in page.get("Versions", ())):
            version = {"VersionId": found["VersionId"]} if found["VersionId"] != "null" else {}
            body = client.get_object(Bucket=bucket, Key=found["Key"], **version)["Body"].read()
            texts.append(decoded(found["Key"], body))
    return "\n".join(texts)


@pytest.fixture(params=["a bucket", "a bucket that keeps versions"])
def any_lake(request, lake, monkeypatch):
    """A lake on a plain bucket, and on one with versioning on."""
    if request.param == "a bucket":
        return lake
    bucket = f"versioned-{uuid.uuid4().hex}"
    lake.lake.client.create_bucket(Bucket=bucket)
    lake.lake.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    monkeypatch.setenv("STEDI_LAKE", f"s3://{bucket}")
    return TestLake()


def run(*arguments: str, email: str = "") -> str:
    result = CliRunner().invoke(main, list(arguments), input=email, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_after_erase_now_nothing_of_a_withdrawn_person_is_left(any_lake):
    lake = any_lake
    three_days(lake)
    assert "p1@example.com" in everything_in(lake, "trusted", "curated")
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    run("erase", "--now")
    left = everything_in(lake, "trusted", "curated", "_stedi/settled")
    assert "p1@example.com" not in left
    assert '"d1"' not in left
    assert "p2@example.com" in left
    assert lake.differences() == {}
    assert lake.catch_up() == 0
    lake.materialize(DATES[0], DATES[2])
    assert lake.differences() == {}


@pytest.mark.slow
def test_forget_takes_a_person_out_of_landed_objects_too_and_leaves_an_audit_row(any_lake):
    lake = any_lake
    three_days(lake)
    lake.put(landed("customer", DATES[1], "broken", '{"email": "P1@example.com", '))
    run("forget", email="P1@example.com \n")
    assert "p1@example.com" not in everything_in(lake, "").lower()
    assert "p2@example.com" in everything_in(lake, "landing")
    audit = [lake.lake.get_json(found["Key"]) for found in lake.lake.objects("_stedi/audit/")]
    assert [row["rows"] for row in audit] == [
        {"customer_landing": 2, "accelerometer_landing": 2, "step_trainer_landing": 1}
    ]
    assert audit[0]["when"].startswith(str(today()))
    assert sum(lake.table("machine_learning_curated").values()) == 2


def test_consent_says_what_is_held_without_saying_who(lake):
    three_days(lake)
    said = run("consent", email="p1@example.com\n")
    assert '"consents": true' in said
    assert '"machine_learning_curated": 1' in said
    assert "p1@" not in said


@pytest.mark.slow
def test_forget_finds_a_person_in_every_way_that_records_are_written(lake):
    three_days(lake)
    mine = person(1, 1, None)
    escaped = mine.replace("p1@example.com", "p1\\u0040example.com")
    upper = phone(1, 5).replace("p1@example.com", "\\t P1@EXAMPLE.com ")
    folder = f"landing/accelerometer/ingest_date={DATES[1]}"
    lake.put(landed("customer", DATES[1], "escaped", escaped, person(4, 0, 1)))
    lake.put(landed("customer", DATES[1], "cut", escaped[:-9]))
    lake.put(landed("accelerometer", DATES[1], "joined", phone(1, 7) + upper + phone(2, 7)))
    lake.put({f"{folder}/zipped.GZ": gzip.compress(f"{phone(1, 8)}\n{phone(2, 8)}".encode())})
    unreadable = f"{folder}/unreadable.gz"
    lake.put({unreadable: phone(1, 9).encode()})
    audit = json.loads(run("forget", email="P1@Example.com\n").partition("{")[2].join(["{", ""]))
    assert audit["unreadable_objects"] == [unreadable]
    lake.lake.delete([unreadable])
    left = everything_in(lake, "").lower()
    assert "p1@" not in left
    assert "p1\\u0040" not in left
    assert "p1\\\\u0040" not in left
    assert "p4@example.com" in left
    kept = lake.lake.client.get_object(
        Bucket="stedi", Key=lake.lake.settings.key(f"{folder}/zipped.GZ")
    )
    assert gzip.decompress(kept["Body"].read()).decode().strip() == phone(2, 8)


@pytest.mark.slow
def test_forget_keeps_a_device_that_is_someone_elses_too_and_says_so(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[1], "shared", person(5, 0, 1, device="d1")))
    said = run("forget", email="p1@example.com")
    assert '"devices_shared_with_others": 1' in said
    assert device(1, 1000) in everything_in(lake, "landing")
    assert "p1@example.com" not in everything_in(lake, "")


def test_consent_of_someone_unknown_says_that_nothing_is_held(lake):
    three_days(lake)
    said = json.loads(run("consent", email="nobody@example.com\n"))
    assert said["known"] is False
    assert said["consents"] is False
    assert set(said["rows"].values()) == {0}


@pytest.mark.slow
def test_erase_beside_a_writer_removes_nothing_that_a_current_version_needs(lake):
    from stedi_assets.definitions import io_manager

    three_days(lake)
    table = TABLES["step_trainer_trusted"]
    rows, dates = lake.table(table.name), Dates(DATES[0], DATES[2])
    errors: list[Exception] = []

    def write_again_and_again() -> None:
        try:
            for _ in range(8):
                io_manager.write(table, io_manager.read(table, dates.predicate), dates)
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write_again_and_again)
    writer.start()
    while writer.is_alive():
        erasure.erase(lake.lake, timedelta(0))
    writer.join()
    assert errors == []
    assert lake.table(table.name) == rows


def test_files_of_writes_that_were_cut_short_go_when_no_write_can_be_under_way(lake, monkeypatch):
    lake.materialize(DATES[0], None, "customer_landing", "customer_trusted")
    path = f"{TABLES['customer_trusted'].path}/part-cut-short.parquet"
    lake.lake.put(path, b"of a write that was killed")
    erasure.erase(lake.lake, timedelta(0))
    assert path in {found["Key"] for found in lake.lake.objects("trusted/")}
    monkeypatch.setattr(erasure, "UNDER_WAY_HOURS", 0)
    erasure.erase(lake.lake, timedelta(0))
    assert path not in {found["Key"] for found in lake.lake.objects("trusted/")}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"email": "ANN@example.com", ', True),
        ("ann@example.com", True),
        (r'{"email":"ann\u0040example.com', True),
        (r'{"email":"\tann@example\u002Ecom."', True),
        ('{"email": "joann@example.com", ', False),
        ('{"email": "jo.ann@example.com", ', False),
        ('{"email": "ann@example.com.au", ', False),
        ('{"email": "ann@example-com", ', False),
    ],
)
def test_an_email_is_found_in_raw_text_and_not_within_somebody_elses(text, found):
    ann = Person("ann@example.com", frozenset(), "", frozenset())
    assert bool(re.search(ann.pattern, text)) == found
