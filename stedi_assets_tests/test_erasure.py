"""Nothing of a person who left is in any object under trusted/ and curated/, each one decoded."""

import gzip
import io
import json
import os
import re
import threading
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import dagster as dg
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from stedi_assets.cli.main import main
from stedi_assets.defs import liveness
from stedi_assets.errors import StediError
from stedi_assets.incremental import lake_state_reader
from stedi_assets.incremental.attempts import begin, read_attempts
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.reconcile import build_out_of_date, catch_up_without_new_dates
from stedi_assets.lakehouse import local_files
from stedi_assets.lakehouse.delta_commit import CHECKPOINT_INTERVAL
from stedi_assets.lakehouse.delta_log import entry_actions
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.privacy import forget as forgetting
from stedi_assets.privacy import unfinished, vacuum
from stedi_assets.privacy.forget import forget
from stedi_assets.privacy.whose_record import Person, redact
from stedi_assets.settings import today
from stedi_assets.tables.schemas import ENTITIES, TABLES
from stedi_assets_tests import seams
from stedi_assets_tests.conftest import TestLake
from stedi_assets_tests.odd_data import T0, compact
from stedi_assets_tests.test_catch_up import (
    DATES,
    device,
    landed,
    person,
    phone,
    three_days,
)


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


def audit_in(output: str) -> dict:
    """The audit row that `stedi forget` prints after its messages."""
    return json.loads("{" + output.partition("\n{")[2])


@pytest.mark.slow
def test_after_erase_now_nothing_of_a_withdrawn_person_is_left(any_lake):
    lake = any_lake
    three_days(lake)
    assert "p1@example.com" in everything_in(lake, "trusted", "curated")
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    run("erase", "--now")
    left = everything_in(lake, "trusted", "curated")
    assert "p1@example.com" not in left
    assert '"d1"' not in left
    assert "p2@example.com" in left
    assert lake.differences() == {}
    assert lake.catch_up() == 0
    lake.materialize(DATES[0], DATES[2])
    assert lake.differences() == {}


@pytest.mark.slow
def test_after_erase_nothing_is_built_again_also_where_it_removed_log_entries(lake, monkeypatch):
    """delta-rs removes entries that this process knows, so the log is read from its start."""
    monkeypatch.setattr(local_files, "_JOINED_ROWS", 0)  # a date is several files, as in big tables
    three_days(lake)
    lake.put(landed("customer", DATES[0], "more", *(person(n, 0, T0) for n in range(10, 400))))
    seams.erase(lake)  # so that log entries are removed at once
    for n in range(1, 13):
        lake.put(landed("customer", DATES[0], "x", person(1, n, T0)))
        lake.catch_up()
    assert lake.pipeline.lakehouse.log(TABLES["customer_trusted"]).version > CHECKPOINT_INTERVAL
    seams.erase(lake)
    assert len(lake.pipeline.lakehouse.log(TABLES["customer_trusted"]).files) == 1
    assert lake.catch_up() == 0


def test_erase_takes_away_what_is_left_of_a_table_whose_log_cannot_be_read_any_more(lake):
    """Nothing reads it, so nothing would make it anew."""
    three_days(lake)
    lake.lake.delete(["_stedi/rollups/dates_of_users/_delta_log/00000000000000000000.json"])
    run("erase", "--now")
    assert "p1@example.com" not in everything_in(lake, "_stedi/rollups/dates_of_users")
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    assert lake.differences() == {}


def test_erase_in_a_process_that_knows_a_log_whose_first_entry_was_lost_since(lake):
    three_days(lake)
    for name in ("more", "still more"):
        lake.put(landed("accelerometer", DATES[1], name, phone(2, 7)))
        lake.catch_up()
    lake.lake.delete(["_stedi/rollups/dates_of_users/_delta_log/00000000000000000000.json"])
    seams.erase(lake)
    assert lake.catch_up() == 0
    assert lake.differences() == {}


@pytest.mark.parametrize("path", ["_stedi/rollups/dates_of_users", "trusted/customer_trusted"])
def test_erase_where_a_checkpoint_is_lost_and_the_logs_entries_are_all_there(lake, path):
    three_days(lake)
    uri = lake.lake.settings.uri(path)
    DeltaTable(uri, storage_options=lake.lake.storage_options).create_checkpoint()
    lake.lake.delete(
        entry["Key"]
        for entry in lake.lake.objects(f"{path}/_delta_log/")
        if entry["Key"].endswith(".checkpoint.parquet")
    )
    seams.erase(lake)
    assert lake.catch_up() == 0
    assert lake.differences() == {}


@pytest.mark.slow
def test_after_erase_now_no_rollup_names_who_is_in_no_landed_object_any_more(any_lake):
    """Nobody's consent changed, so nothing else reads the roll-ups of landed dates."""
    lake = any_lake
    three_days(lake)
    mine = landed("accelerometer", DATES[0], "p9", phone(9, 5))
    lake.put(mine | landed("step_trainer", DATES[0], "d9", device(9, 5)))
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    held = everything_in(lake, "_stedi/rollups")
    assert "p9@example.com" in held
    assert "'d9'" in held
    lake.remove(*mine, f"landing/step_trainer/ingest_date={DATES[0]}/d9")
    run("erase", "--now")
    left = everything_in(lake, "_stedi", "landing/accelerometer_landing")
    assert "p9@example.com" not in left
    assert "'d9'" not in left
    assert "p2@example.com" in left
    assert lake.differences() == {}
    assert lake.catch_up() == 0


@pytest.mark.slow
def test_forget_takes_a_person_out_of_landed_objects_too_and_leaves_an_audit_row(any_lake):
    lake = any_lake
    three_days(lake)
    lake.put(landed("customer", DATES[1], "broken", '{"email": "P1@example.com", '))
    run("forget", email="P1@example.com \n")
    assert "p1@example.com" not in everything_in(lake, "").lower()
    assert "p2@example.com" in everything_in(lake, "landing")
    kept = [found["Key"] for found in lake.lake.objects("_stedi/audit/")]
    audit = [json.loads(lake.lake.get(k)[0]) for k in kept]
    assert [row["rows"] for row in audit] == [
        {
            "customer_landing": 2,
            "accelerometer_landing": 2,
            "step_trainer_landing": 1,
            "customer_trusted": 1,
            "accelerometer_trusted": 2,
            "step_trainer_trusted": 1,
            "customers_curated": 1,
            "machine_learning_curated": 1,
        }
    ]
    assert audit[0]["completed"] is True
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
    audit = audit_in(run("forget", email="P1@Example.com\n"))
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


# Nobody else's records hold this; the email and the device's number do.
MARK = "f\u00efnd/me"
ANN = f"{MARK}@example.com"
RECORDS = {
    "customer": json.loads(person(7, 0, 1)) | {"email": ANN, "serialNumber": f"{MARK}-1"},
    "accelerometer": {"user": ANN, "timestamp": T0, "x": 1.0, "y": 2.0, "z": 3.0},
    "step_trainer": {
        "sensorReadingTime": T0,
        "serialNumber": f" {MARK}-1\t",
        "distanceFromObject": 1,
    },
}


def odd_ways(record: dict) -> list[str]:
    """Lines that name the person of a record, one well-formed, the others in some way malformed."""
    line, number, who = compact(record), f"{MARK}-1", next(v for v in record.values() if v)
    quoted = {name: str(value) for name, value in record.items()}
    return [
        line,
        line[:-2],
        json.dumps(record)[1:],  # escaped, as most producers do
        line.replace("/", "\\/")[:-2],
        f"[{line}]",
        f"rest}} {line}",
        compact(quoted).upper().replace(number.upper(), number),  # numbers are exact
        compact(record | {"serialNumber": number, "x": [], "distanceFromObject": 1.5}),
        compact({"unknown": number, "other": who}),
        f"{number};{ANN};7",
        f"'{number}'",
        f'"{ANN}',
    ]


def naming(text: str) -> list[str]:
    """What in a text names the person of `MARK`, however it was escaped, and how often."""
    plain = text.replace("\\/", "/").replace("\\\\", "\\")
    for escape in ("\\u00ef", "\\xc3\\xaf", "\\xc3\\x8f"):
        plain = plain.replace(escape, "\u00ef")
    plain = plain.replace("\\/", "/")
    return re.findall(f"(?i).{{0,9}}{MARK}", plain)


OTHERS = [person(2, 0, 1), phone(2, 1), device(2, 1), "cut: { 'p2@example.com', 'd2'", f"x{MARK}-1"]
ANN_WITH_DEVICE = Person(ANN, frozenset({f"{MARK}-1"}), "", frozenset())


@given(
    st.sampled_from(sorted(RECORDS)),
    st.lists(st.integers(0, 11) | st.sampled_from(OTHERS), max_size=12),
    st.sampled_from(["\n", "\r\n", "\r", "\n \t\n"]),
)
def test_every_record_of_a_person_is_taken_out_and_nobody_elses(entity, lines, end):
    ways = odd_ways(RECORDS[entity])
    text = end.join(ways[line] if isinstance(line, int) else line for line in lines)
    redaction = redact(text, ENTITIES[entity], ANN_WITH_DEVICE)
    left = [line for line in redaction.text.splitlines() if line.strip()]
    assert left == [line for line in lines if not isinstance(line, int)]
    assert redaction.taken == len(lines) - len(left)


@pytest.mark.slow
def test_after_forget_no_object_in_the_bucket_names_the_person_or_their_device(any_lake):
    lake = any_lake
    three_days(lake)
    lake.put(landed("customer", DATES[0], "ann", compact(RECORDS["customer"])))
    day = DATES[0]
    for entity, record in RECORDS.items():
        for way in odd_ways(record):  # alone on a day of its own
            day += timedelta(1)
            lake.put(landed(entity, day, "odd", way))
        folder = f"landing/{entity}"
        lake.put({f"{folder}/stray.json": compact(record).encode()})
        lake.put({f"{folder}/ingest_date={day}/_hidden": compact(record).encode()})
        overwritten = landed(entity, day, "overwritten", compact(record))
        lake.put(overwritten)
        lake.put(dict.fromkeys(overwritten, b""))
    others = [phone(2, 2000), compact(json.loads(phone(2, 3000)) | {"of": f"friend of {ANN}"})]
    lake.put(landed("accelerometer", DATES[2], "a", *others))
    lake.catch_up()
    assert naming(everything_in(lake, "landing/step_trainer_landing"))
    held = json.loads(run("consent", email=ANN))["rows"]
    assert held["accelerometer_trusted"] == 1
    audit = audit_in(run("forget", email=ANN))
    assert naming(everything_in(lake, "")) == []
    assert others[0] in everything_in(lake, "landing")
    for entity in ENTITIES:  # beside what had landed, the two that had not
        assert audit["rows"][f"{entity}_landing"] >= held[f"{entity}_landing"] + 2
    assert set(json.loads(run("consent", email=ANN))["rows"].values()) == {0}


@pytest.mark.parametrize("kept_by", ["erase_versions", "current"])
def test_an_order_that_ends_before_all_it_kept_is_gone_is_found_again(any_lake, kept_by):
    store, ann = any_lake.lake, Person(ANN, frozenset(), "s", frozenset())
    unfinished.begin(store, ann, {"d1"})
    order = unfinished.begin(store, ann, {"d2"})
    with pytest.MonkeyPatch.context() as patch:

        def refused(*_arguments: object) -> None:
            raise StediError("S3 does not answer.")

        if kept_by == "erase_versions":
            patch.setattr(unfinished, "erase_versions", refused)
        else:
            patch.setattr(unfinished, "delete_for_good", refused)
        assert unfinished.end(store, ann, order) == ["S3 does not answer."]
    assert unfinished.read(store, ann) == order
    assert unfinished.end(store, ann, order) == []
    assert everything_in(any_lake, "_stedi/unfinished_forget") == ""
    assert unfinished.end(store, ann, order) == [], "another order ended it meanwhile"


def test_files_of_other_writers_in_a_log_folder_go_once_they_are_old(lake, monkeypatch):
    three_days(lake)
    log = f"{TABLES['accelerometer_trusted'].path}/_delta_log"
    names = ("_sidecars/a.parquet", "_commit_1.json.tmp", "__tmp_path_dir/0001.json")
    lake.put({f"{log}/{name}": ANN.encode() for name in names})
    assert vacuum.purge(lake.pipeline, timedelta(0)).kept == len(names)
    time.sleep(1.1)  # S3 says in whole seconds when an object was written
    monkeypatch.setattr(vacuum, "UNDER_WAY_HOURS", 0)
    vacuum.purge(lake.pipeline, timedelta(0))
    assert ANN not in everything_in(lake, log)
    assert lake.catch_up() == 0


def test_after_forget_no_version_of_what_it_kept_meanwhile_names_a_device(any_lake):
    three_days(any_lake)
    run("forget", email="p1@example.com")
    assert '"d1"' not in everything_in(any_lake, "_stedi")


@pytest.mark.slow
def test_a_run_that_had_read_before_a_forget_writes_nothing_of_the_person_back(lake, monkeypatch):
    three_days(lake)
    has_read, may_write = threading.Event(), threading.Event()
    write = Pipeline.write

    def slow_write(pipeline, table, days, batch, run_id=""):
        if table.name == "accelerometer_trusted" and not has_read.is_set():
            has_read.set()
            may_write.wait()
        return write(pipeline, table, days, batch, run_id)

    errors: list[Exception] = []

    def materialize() -> None:
        try:
            TestLake().materialize(DATES[1])  # of a process of its own
        except Exception as error:
            errors.append(error)

    monkeypatch.setattr(Pipeline, "write", slow_write)
    beside = threading.Thread(target=materialize)
    beside.start()
    try:
        assert has_read.wait(120)
        result = CliRunner().invoke(main, ["forget"], input="p1@example.com")
    finally:
        may_write.set()
        beside.join()
    assert result.exit_code == 0
    assert errors == []  # its step reads anew and computes again
    assert "p1@example.com" not in everything_in(lake, "")


@pytest.mark.slow
def test_rows_that_are_there_again_at_the_end_are_said_and_erase_takes_them_out(lake, monkeypatch):
    three_days(lake)
    bring_up_to_date = forgetting._bring_up_to_date

    def bring_up_to_date_while_they_land_again(*arguments):
        bring_up_to_date(*arguments)  # the last look at what is out of date
        lake.put(landed("accelerometer", DATES[1], "again", phone(1, 7)))
        lake.catch_up()

    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "_bring_up_to_date", bring_up_to_date_while_they_land_again)
        result = CliRunner().invoke(main, ["forget"], input="p1@example.com")
    assert result.exit_code == 1
    assert "`stedi erase --now`" in result.output.splitlines()[-1]
    lake.remove(f"landing/accelerometer/ingest_date={DATES[1]}/again")
    run("erase", "--now")
    assert "p1@example.com" not in everything_in(lake, "")


NEW = DATES[2] + timedelta(1)


def test_a_new_date_that_cannot_be_built_holds_up_no_erasure(lake, dagster_home):
    three_days(lake)
    lake.put(landed("accelerometer", NEW, "a", phone(1, 3000), phone(2, 3000)))
    lake.put(landed("customer", NEW, "withdrawn", person(1, 1, None)))
    run("erase", "--now")
    assert "p1@example.com" not in everything_in(lake, "trusted", "curated")
    lake.put(landed("customer", NEW, "withdrawn, too", person(2, 1, None)))
    config = {"ops": {"erase_old_files": {"config": {"retention_days": 0}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        job = lake.defs.resolve_job_def("maintenance")
        assert job.execute_in_process(instance=instance, run_config=config).success
    assert "p2@example.com" not in everything_in(lake, "trusted", "curated")
    assert not lake.pipeline.lakehouse.log(TABLES["accelerometer_landing"]).of(NEW)


@pytest.mark.parametrize(
    ("table", "built"), [("accelerometer_landing", False), ("machine_learning_curated", True)]
)
def test_a_table_that_was_never_built_since_the_process_dies_in_it_holds_up_no_erasure(
    lake, monkeypatch, table, built
):
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0), person(2, 0, T0)))
    lake.catch_up()
    lake.put(landed("accelerometer", NEW, "a", phone(1, 0), phone(2, 0)))
    lake.put(landed("step_trainer", NEW, "s", device(1, 0), device(2, 0)))
    monkeypatch.setattr(Pipeline, "write", seams.dying_write(Pipeline.write, table, NEW))
    if built:
        with pytest.raises(seams.Killed):
            build_out_of_date(lake.pipeline)
    lake.put(landed("customer", NEW, "withdrawn", person(1, 1, None)))
    assert erase_in_this_process(lake) == []
    assert "p1@example.com" not in everything_in(lake, "trusted", "curated")


def erase_in_this_process(lake) -> list[str]:
    """The problems of `stedi erase --now`; Dagster, which a dying step does not end, left out."""

    def run(planned):
        assert planned.without_new_dates
        if failures := build_out_of_date(lake.pipeline, without_new_dates=True).failures:
            raise StediError(" ".join(failures))

    def build():
        catch_up_without_new_dates(lake.pipeline, run, lambda _line: None)

    return vacuum.erase(lake.pipeline, build, timedelta(0)).problems


@pytest.mark.parametrize("lands", [True, False])
def test_erasure_says_where_who_is_in_cannot_be_computed(lake, monkeypatch, lands):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.materialize(DATES[2], None, "customer_landing")
    if lands:
        lake.put(landed("accelerometer", NEW, "a", phone(2, 3000)))

    def fails(*_):
        raise StediError("Computing membership failed")

    monkeypatch.setattr(lake_state_reader, "compute_membership", fails)
    assert "Computing membership failed" in " ".join(erase_in_this_process(lake))


def test_erasure_tries_again_what_failed(lake, monkeypatch):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    replace, left = Lakehouse.replace, [1, 2, 3]  # both dates at once, then each by itself

    def failing(self, table, *arguments, **options):
        if table.name == "accelerometer_trusted" and left:
            left.pop()
            raise StediError("S3 took too long")
        return replace(self, table, *arguments, **options)

    monkeypatch.setattr(Lakehouse, "replace", failing)
    assert erase_in_this_process(lake) == []
    assert "p1@example.com" not in everything_in(lake, "trusted", "curated")


@pytest.mark.parametrize(
    ("table", "day"),
    [
        ("accelerometer_landing", NEW),
        ("accelerometer_landing", DATES[2]),
        ("accelerometer_trusted", DATES[1]),
        ("step_trainer_trusted", DATES[1]),
        ("machine_learning_curated", DATES[1]),
        ("customer_landing", DATES[2]),
    ],
)
@pytest.mark.parametrize("command", ["erase", "forget"])
def test_a_partition_on_which_the_process_dies_keeps_nobody_in_any_object(
    lake, monkeypatch, command, table, day
):
    three_days(lake)
    for landing in (NEW, DATES[1], DATES[2]):
        lake.put(landed("accelerometer", landing, "b", phone(2, 3000)))
        lake.put(landed("step_trainer", landing, "b", device(2, 3000)))
    lake.put(landed("customer", DATES[2], "granted", person(3, 0, T0)))
    if command == "erase":
        lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    write = seams.dying_write(Pipeline.write, table, day)
    monkeypatch.setattr(Pipeline, "write", write)
    problems: list[str] = []
    for _ in range(4 if table == "customer_landing" else 2):
        with suppress(seams.Killed):
            if command == "erase":
                problems = erase_in_this_process(lake)
            else:
                forget_in_this_process(lake)
    said = [line for line in problems if "by its records is still in" in line]
    assert len(said) == ((command, table) == ("erase", "customer_landing"))
    where = [""] if command == "forget" else ["trusted", "curated"]
    assert "p1@example.com" not in everything_in(lake, *where)


def test_customers_dates_that_were_begun_together_twice_are_not_left_out(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[1], "withdrawn", person(1, 1, None)))
    lake.put(landed("customer", DATES[2], "granted", person(3, 0, T0)))
    for _ in range(2):
        begin(lake.lake, read_attempts(lake.lake), "customer_landing", DATES[1:])
    assert erase_in_this_process(lake) == []
    assert "p1@example.com" not in everything_in(lake, "trusted", "curated")


def test_forget_removes_what_named_the_person_in_a_date_that_could_only_be_built_last(lake):
    friend = json.loads(person(2, 1, T0)) | {"customerName": "friend of p1@example.com"}
    lake.put(landed("customer", DATES[0], "f", compact(friend)))
    three_days(lake)
    lake.put(landed("customer", DATES[0], "late", person(3, 0, T0)))
    for _ in range(2):
        begin(lake.lake, read_attempts(lake.lake), "customer_landing", DATES[:1])
    forget_in_this_process(lake)
    assert "p1@example.com" not in everything_in(lake, "")


def forget_in_this_process(lake) -> None:
    """`stedi forget` of person 1; Dagster, which a dying step does not end, left out."""

    def built(**left_out: bool) -> None:
        if failures := build_out_of_date(lake.pipeline, **left_out).failures:
            raise StediError(" ".join(failures))

    forget(lake.pipeline, "p1@example.com", partial(built, without_new_dates=True), built, list)


@pytest.mark.parametrize("command", ["forget", "rebuild"])
def test_what_must_be_alone_is_refused_while_a_run_is_under_way(lake, dagster_home, command):
    from stedi_assets.definitions import defs

    lake.put(landed("customer", DATES[0], "c", person(1, 0, 1)))
    before = everything_in(lake, "")
    with dg.DagsterInstance.get() as instance:
        job = defs.resolve_job_def("catch_up")
        under_way = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    result = CliRunner().invoke(main, [command], input="p1@example.com")
    assert result.exit_code == 1
    assert f"Run {under_way.run_id} is " in result.output.splitlines()[-1]
    assert before in everything_in(lake, "")


@pytest.mark.parametrize("events", ["kept", "lost", "damaged"])
def test_a_run_whose_process_died_does_not_keep_a_person_from_being_forgotten(
    lake, monkeypatch, dagster_home, events
):
    from stedi_assets.definitions import defs

    lake.put(landed("customer", DATES[0], "c", person(1, 0, 1)))
    with dg.DagsterInstance.get() as instance:
        job = defs.resolve_job_def("catch_up")
        dead = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        instance.report_engine_event("started", dead)
    file = dagster_home / f"history/runs/{dead.run_id}.db"
    if events != "kept":
        for part in file.parent.glob(f"{file.name}*"):
            part.unlink()
    if events == "damaged":
        file.write_bytes(os.urandom(8192))
    result = CliRunner().invoke(main, ["forget"], input="p1@example.com")
    assert f"Run {dead.run_id} is " in result.output
    monkeypatch.setattr(liveness, "HEARTBEAT_TIMEOUT", timedelta(0))
    run("forget", email="p1@example.com")
    assert "p1@example.com" not in everything_in(lake, "")


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


@pytest.mark.parametrize("table", ["customer_landing", "accelerometer_trusted"])
@pytest.mark.parametrize("command", ["consent", "query"])
def test_of_a_table_that_is_damaged_nobody_is_told_that_it_holds_nothing(lake, table, command):
    three_days(lake)
    lake.lake.put(f"{TABLES[table].path}/_delta_log/{0:020}.json", b"garbage")
    arguments = ["consent"] if command == "consent" else ["query", f"SELECT * FROM {table}"]
    answer = CliRunner().invoke(main, arguments, input="p1@example.com")
    assert answer.exit_code == 1
    assert f"{table} is damaged: run `stedi catch-up`" in answer.output
    assert "Traceback" not in answer.output


@pytest.mark.slow
def test_erase_beside_a_writer_removes_nothing_that_a_current_version_needs(lake):
    from stedi_assets.definitions import build_pipeline

    three_days(lake)
    table = TABLES["step_trainer_trusted"]
    rows = lake.table(table.name)
    writers = build_pipeline(lake.settings).lakehouse
    errors: list[Exception] = []

    def write_again_and_again() -> None:
        try:
            for _ in range(8):
                with write_lock(writers.store, table.name):
                    writers.refresh([table])
                    writers.replace(table, writers.read(table), set(DATES))
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write_again_and_again)
    writer.start()
    while writer.is_alive():
        vacuum.purge(lake.pipeline, timedelta(0))
    writer.join()
    assert errors == []
    assert lake.table(table.name) == rows


def test_files_of_writes_that_were_cut_short_go_when_no_write_can_be_under_way(lake, monkeypatch):
    lake.materialize(DATES[0], None, "customer_landing", "customer_trusted")
    path = f"{TABLES['customer_trusted'].path}/part-cut-short.parquet"
    lake.lake.put(path, b"of a write that was killed")
    purged = vacuum.purge(lake.pipeline, timedelta(0))
    assert purged.kept == 1
    assert "1 file that no table names stays" in str(purged)
    assert path in {found["Key"] for found in lake.lake.objects("trusted/")}
    time.sleep(1.1)  # S3 says in whole seconds when an object was written
    monkeypatch.setattr(vacuum, "UNDER_WAY_HOURS", 0)
    purged = vacuum.purge(lake.pipeline, timedelta(0))
    assert purged.kept == 0
    assert "No file that left the tables remains" in str(purged)
    assert path not in {found["Key"] for found in lake.lake.objects("trusted/")}


def test_what_leaves_a_table_leaves_it_by_s3s_clock(lake, monkeypatch):
    """A writer's clock that is ahead would keep withdrawn people's files from `erase`."""
    three_days(lake)
    seams.set_clock_ahead(monkeypatch, timedelta(hours=2))
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    log = f"{TABLES['customer_trusted'].path}/_delta_log/"
    newest = max(e["Key"] for e in lake.lake.objects(log) if e["Key"].endswith(".json"))
    left = [a for kind, a in entry_actions(lake.lake.get(newest)[0]) if kind == "remove"]
    assert abs(time.time() - left[0]["deletionTimestamp"] / 1000) < 300


def begin_upload(lake, path: str) -> None:
    """As `stedi land` leaves it that is killed between two parts."""
    client, address = lake.lake.client, {"Bucket": "stedi", "Key": lake.settings.key(path)}
    address["UploadId"] = client.create_multipart_upload(**address)["UploadId"]
    client.upload_part(**address, PartNumber=1, Body=person(1, 0, 1).encode())


def uploads_in(lake) -> list[str]:
    prefix = lake.settings.key("")
    answer = lake.lake.client.list_multipart_uploads(Bucket="stedi", Prefix=prefix)
    return [upload["Key"].removeprefix(prefix) for upload in answer.get("Uploads", ())]


@pytest.mark.parametrize("command", ["erase", "forget"])
def test_uploads_that_were_cut_short_go(new_lake, monkeypatch, command):
    now = ObjectStore.now
    monkeypatch.setattr(ObjectStore, "now", lambda store: now(store) + timedelta(hours=25))
    other = new_lake()
    begin_upload(other, "landing/a.json")
    lake = new_lake()
    begin_upload(lake, "backups/others.dump")  # as in a bucket whose root the lake is
    lake.put(landed("customer", DATES[0], "c", person(1, 0, 1)))
    for path in (f"landing/customer/ingest_date={DATES[0]}/big.json", "trusted/x", "_stedi/y"):
        begin_upload(lake, path)
    if command == "erase":
        assert "Ended 3 uploads that were cut short." in run("erase", "--now")
    else:
        run("forget", email="p1@example.com")
    assert uploads_in(lake) == ["backups/others.dump"]
    assert uploads_in(other) == ["landing/a.json"]


def test_an_upload_that_may_be_under_way_stays_for_a_day(lake, monkeypatch):
    begin_upload(lake, "landing/a.json")
    purge = vacuum.purge(lake.pipeline, timedelta(0))
    assert purge.uploads == 0
    assert purge.warnings[0].startswith("1 uploads are in progress")
    now = lake.lake.now()
    for age, left in ((timedelta(hours=23), 1), (timedelta(hours=25), 0)):
        monkeypatch.setattr(ObjectStore, "now", lambda _self, age=age: now + age)
        vacuum.purge(lake.pipeline, timedelta(0))
        assert len(uploads_in(lake)) == left


@pytest.mark.parametrize("operation", ["list_multipart_uploads", "abort_multipart_upload"])
def test_where_s3_does_not_let_uploads_be_ended_it_is_a_warning(lake, monkeypatch, operation):
    begin_upload(lake, "landing/a.json")
    begin_upload(lake, "trusted/a.json")
    client = lake.lake.client
    may, now = client.abort_multipart_upload, lake.lake.now() + timedelta(hours=25)
    monkeypatch.setattr(ObjectStore, "now", lambda _store: now)

    def refuse(**arguments: str) -> object:
        if "trusted" in arguments.get("Key", ""):
            return may(**arguments)
        answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, operation)

    if operation == "list_multipart_uploads":
        monkeypatch.setattr(client, "get_paginator", without_uploads(client, refuse))
    else:
        monkeypatch.setattr(client, operation, refuse)
    said = run("erase", "--now")
    assert "AccessDenied" in said
    assert "uploads that were cut short" in said
    left = ["landing/a.json"] if operation[0] == "a" else ["landing/a.json", "trusted/a.json"]
    assert sorted(uploads_in(lake)) == left


def without_uploads(client, refuse):
    """The client's `get_paginator`, which cannot list uploads."""
    get_paginator = client.get_paginator

    def get(operation: str) -> object:
        refused = SimpleNamespace(paginate=refuse)
        return refused if operation == "list_multipart_uploads" else get_paginator(operation)

    return get
