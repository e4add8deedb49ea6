"""What is damaged, lost or written by others ends in tables that are right, and blocks no privacy.

Each ends in `up_to_date` by a process that knows nothing, or in a person who is forgotten.
"""

import io
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from deltalake import DeltaTable, write_deltalake

from stedi_assets.cli.main import main
from stedi_assets.defs.jobs import run_here
from stedi_assets.errors import StediError
from stedi_assets.incremental import inputs, rollups
from stedi_assets.incremental.ledger import contents_of, files_of, read_ledger, record
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.reconcile import build_out_of_date, catch_up, find_out_of_date
from stedi_assets.incremental.rollups import ROLLUP_TABLES
from stedi_assets.lakehouse.delta_commit import entry_path, first_entry, write_checkpoint
from stedi_assets.lakehouse.delta_log import read_log
from stedi_assets.lakehouse.object_store import open_store
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.privacy import vacuum
from stedi_assets.privacy.audit import audit_rows
from stedi_assets.tables.schemas import TABLES, Table
from stedi_assets_tests.conftest import TestLake
from stedi_assets_tests.driver import tick
from stedi_assets_tests.odd_data import T0
from stedi_assets_tests.test_catch_up import DATES, device, landed, person, phone, three_days
from stedi_assets_tests.test_erasure import everything_in
from stedi_assets_tests.test_never_stale import keys, up_to_date

WITHDRAWN = landed("customer", DATES[2], "withdrawn", person(1, 1, None))


def by_delta_rs(lake, table: str) -> DeltaTable:
    uri = lake.settings.uri(TABLES[table].path)
    return DeltaTable(uri, storage_options=lake.lake.storage_options)


def log_entries(lake, table: str) -> list[str]:
    found = keys(lake, f"{TABLES[table].path}/_delta_log/")
    return sorted(key for key in found if key.endswith(".json"))


NEXT_DATE = DATES[2] + timedelta(1)


def as_a_new_process(lake) -> TestLake:
    open_store.cache_clear()
    other = TestLake()
    other.objects = lake.objects
    return other


def append_a_row(lake, table: str, **values: object) -> None:
    """A row of the table once more, with other values: by somebody who knows no write lock."""
    delta = by_delta_rs(lake, table)
    rows = delta.to_pyarrow_table().slice(0, 1)
    for name, value in values.items():
        at = rows.column_names.index(name)
        rows = rows.set_column(at, name, pa.array([value], rows.schema.field(name).type))
    write_deltalake(delta, rows, mode="append")


def forget(lake, email: str) -> None:
    result = CliRunner().invoke(main, ["forget"], input=email)
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert email not in everything_in(lake, "landing/customer", "landing/accelerometer/")
    assert email not in everything_in(lake, "trusted", "curated")


KNOWN = pytest.mark.parametrize("known", [True, False], ids=["known", "new process"])


@KNOWN
def test_the_first_log_entry_is_lost(lake, known):
    """Also where this process could go on: others read the log from its start."""
    three_days(lake)
    for n in range(2):
        lake.put(landed("customer", DATES[0], f"more {n}", person(7 + n, 0, T0)))
        lake.catch_up()
    lake.lake.delete(log_entries(lake, "customer_trusted")[:1])
    up_to_date(lake if known else as_a_new_process(lake))


@pytest.mark.parametrize("table", ["customers_curated", "accelerometer_trusted"])
@KNOWN
def test_the_newest_log_entry_is_lost_and_its_checkpoint_is_not(lake, table, known):
    """A commit in its place would be right for us, and unseen by every reader of Delta."""
    three_days(lake)
    assert (
        vacuum.erase(lake.pipeline, lake.catch_up_without_new_dates, timedelta(30)).problems == []
    )
    lake.lake.delete(log_entries(lake, table)[-1:])
    lake.put(WITHDRAWN)
    up_to_date(lake if known else as_a_new_process(lake))


def lose_the_newest_log_entry(lake, table: str) -> None:
    """Its checkpoint stays: to us the table is lost, and others go on reading it."""
    write_checkpoint(lake.lake, TABLES[table])
    lake.lake.delete(log_entries(lake, table)[-1:])
    assert sum(lake.table(table).values()), "delta-rs reads it"


@pytest.mark.parametrize("ledger_too", [False, True])
@pytest.mark.parametrize("table", ["accelerometer_trusted", "machine_learning_curated"])
def test_a_lost_table_of_which_nothing_is_wanted_any_more(lake, table, ledger_too):
    """Everybody who is in it withdraws."""
    three_days(lake)
    lose_the_newest_log_entry(lake, table)
    everybody = [person(n, 1, None) for n in (1, 2)]
    lake.put(landed("customer", DATES[2], "withdrawn", *everybody))
    if ledger_too:
        lake.lake.delete([f"_stedi/ledger/{table}.json"])
    up_to_date(as_a_new_process(lake))


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("table", ["customer_landing", "machine_learning_curated"])
def test_a_lost_table_of_a_lake_where_nothing_is_landed_any_more(lake, table, everything):
    three_days(lake)
    lose_the_newest_log_entry(lake, table)
    lake.remove(*lake.objects)
    if everything:
        lake.lake.delete_below("_stedi/")
        lake.lake.delete_below("landing/")
    up_to_date(as_a_new_process(lake))


def test_an_earlier_log_entry_is_that_of_a_lost_table(lake):
    table = "machine_learning_curated"
    three_days(lake)
    folder = f"{TABLES[table].path}/"
    old = {key: lake.lake.get(key)[0] for key in keys(lake, folder)}
    lake.lake.delete(list(old))
    lake.catch_up()
    lake.put(WITHDRAWN)
    lake.catch_up()
    assert len(log_entries(lake, table)) == 3
    for key, body in old.items():
        if key.endswith((f"{1:020}.json", ".parquet")):
            lake.lake.put(key, body)
    up_to_date(lake)


def test_somebody_adds_a_file_whose_date_only_we_would_read(lake):
    three_days(lake)
    table = TABLES["accelerometer_trusted"]
    folder = f"{table.path}/ingest_date={DATES[0]}/"
    (file, *_) = keys(lake, folder)
    body, path = lake.lake.get(file)[0], f"ingest_date={DATES[0]}/copy.parquet"
    lake.lake.put(f"{table.path}/{path}", body)
    values = {"ingest_date": f"{DATES[0]} 00:00:00"}
    add = {"path": path, "partitionValues": values, "size": len(body), "modificationTime": 1}
    version = len(log_entries(lake, table.name))
    entry = json.dumps({"add": add | {"dataChange": True}}).encode()
    lake.lake.put(entry_path(table, version), entry)
    up_to_date(lake)


@pytest.mark.parametrize("day", [date.min, date(1600, 1, 1), date.max])
@pytest.mark.parametrize("table", ["accelerometer_landing", "step_trainer_landing"])
def test_somebody_adds_a_row_of_an_impossible_date(lake, day, table):
    three_days(lake)
    append_a_row(lake, table, ingest_date=day)
    with dg.DagsterInstance.ephemeral() as instance:
        assert [r.job_name for r in tick(lake, instance).run_requests] == ["catch_up"]
    lake.put(WITHDRAWN)
    up_to_date(lake)


def test_forget_where_the_newest_log_entry_is_lost_and_its_checkpoint_is_not(lake):
    three_days(lake)
    vacuum.erase(lake.pipeline, lake.catch_up_without_new_dates, timedelta(30))
    lake.lake.delete(log_entries(lake, "customers_curated")[-1:])
    forget(lake, "p1@example.com")


def test_a_row_that_somebody_adds_during_a_compaction_is_not_taken_for_ours(lake, monkeypatch):
    three_days(lake)
    table, added, committed = TABLES["accelerometer_trusted"], [], vacuum._committed

    def committed_after_another(delta: DeltaTable, commit: Callable[[], object]) -> None:
        if not added and table.path in delta.table_uri:
            added.append(append_a_row(lake, table.name, x=99.0))
        committed(delta, commit)

    monkeypatch.setattr(vacuum, "_committed", committed_after_another)
    assert (
        vacuum.erase(lake.pipeline, lake.catch_up_without_new_dates, timedelta(30)).problems == []
    )
    assert added
    up_to_date(as_a_new_process(lake))


@pytest.mark.parametrize("table", ["accelerometer_landing", "accelerometer_trusted"])
@pytest.mark.parametrize("day", [date(2019, 1, 1), date(2999, 1, 1), None], ids=str)
def test_a_row_of_a_date_that_no_partition_is_of(lake, table, day):
    three_days(lake)
    append_a_row(lake, table, ingest_date=day)
    up_to_date(as_a_new_process(lake))


def test_the_first_date_is_a_later_one_now_and_another_date_landed(lake, monkeypatch):
    """The run of the new date failed its checks, by the rows from before the first date."""
    three_days(lake)
    lake.put(landed("accelerometer", DATES[2] + timedelta(1), "new", phone(1, 5)))
    lake.lake.delete(["_stedi/settings.json"])
    monkeypatch.setenv("STEDI_FIRST_INGEST_DATE", str(DATES[1]))
    later = as_a_new_process(lake)
    later.catch_up()
    assert later.catch_up() == 0


def test_the_sensor_goes_on_beside_a_row_of_a_date_that_no_partition_is_of(lake):
    three_days(lake)
    append_a_row(lake, "accelerometer_landing", ingest_date=date(2019, 1, 1))
    lake.pipeline.refresh()
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = tick(lake, instance, "9").run_requests
    assert request.job_name == "catch_up"


def cut(body: bytes) -> bytes:
    return body[:-40]


def with_a_deletion_vector(body: bytes) -> bytes:
    vector = {"storageType": "i", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 1}
    return _with_each_file(body, lambda add: add.update(deletionVector=vector))


def without_statistics(body: bytes) -> bytes:
    return _with_each_file(body, lambda add: add.pop("stats"))


def _with_each_file(body: bytes, change: Callable[[dict], object]) -> bytes:
    lines = [json.loads(line) for line in body.splitlines()]
    for line in lines:
        if "add" in line:
            change(line["add"])
    return "\n".join(map(json.dumps, lines)).encode()


@pytest.mark.parametrize("damage", [cut, with_a_deletion_vector, without_statistics])
@pytest.mark.parametrize("what", ["catch-up", "forget"])
def test_a_log_entry_that_is_not_as_it_was_written(lake, damage, what):
    three_days(lake)
    key = log_entries(lake, "customers_curated")[-1]
    lake.lake.put(key, damage(lake.lake.get(key)[0]))
    lake = as_a_new_process(lake)
    if what == "forget":
        forget(lake, "p1@example.com")
    else:
        up_to_date(lake)


@pytest.mark.parametrize("database", ["history/runs.db", "history/runs/index.db"])
def test_nobody_waits_for_a_dagster_database_that_is_damaged(lake, dagster_home, database):
    three_days(lake)
    for end in ("-wal", "-shm"):
        (dagster_home / f"{database}{end}").unlink(missing_ok=True)
    (dagster_home / database).write_bytes(os.urandom(8192))
    lake.put(WITHDRAWN)
    result = CliRunner().invoke(main, ["catch-up"])
    assert result.exit_code == 0, result.output
    assert "cannot be read" in result.output
    assert lake.differences() == {}
    forget(lake, "p2@example.com")


@pytest.mark.parametrize("table", ["runs", "event_logs"])
def test_nobody_waits_for_a_dagster_database_that_takes_no_more(lake, dagster_home, table):
    three_days(lake)
    takes_no_more(dagster_home, table)
    lake.put(WITHDRAWN)
    result = CliRunner().invoke(main, ["catch-up"])
    assert result.exit_code == 0, result.output
    assert lake.differences() == {}


def takes_no_more(dagster_home: Path, table: str) -> None:
    database = {"runs": "runs.db", "event_logs": "runs/index.db"}[table]
    with sqlite3.connect(dagster_home / "history" / database) as connection:
        full = "SELECT RAISE(ABORT, 'database or disk is full')"
        connection.execute(f"CREATE TRIGGER t BEFORE INSERT ON {table} BEGIN {full}; END")


def test_where_no_run_can_be_recorded_everything_is_done_all_the_same(
    lake, dagster_home, monkeypatch
):
    three_days(lake)
    takes_no_more(dagster_home, "runs")
    lake.put(WITHDRAWN)
    bad = NEXT_DATE + timedelta(1)
    for day in (NEXT_DATE, bad):
        lake.put(landed("accelerometer", day, "a", phone(2, 3000)))
    write = Pipeline.write

    def failing(self, table, days, *more):
        if table.name == "accelerometer_landing" and bad in days:
            raise StediError("accelerometer_landing cannot be written")
        return write(self, table, days, *more)

    monkeypatch.setattr(Pipeline, "write", failing)
    result = CliRunner().invoke(main, ["catch-up"])
    assert result.exit_code == 1
    assert "2 runs failed" in result.output.splitlines()[-1]
    stale, _ = find_out_of_date(as_a_new_process(lake).pipeline)
    assert {name: set(reasons) for name, reasons in stale.items()} == {
        "accelerometer_landing": {bad}
    }


def test_a_roll_up_and_a_table_that_lost_a_file_each(lake):
    three_days(lake)
    for day, who in ((DATES[1], 4), (DATES[2], 5)):
        lake.put(landed("customer", day, "more", person(who, 0, T0)))
    lake.catch_up()
    lost = [
        *keys(lake, "_stedi/rollups/current_records/"),
        *keys(lake, "trusted/customer_trusted/"),
    ]
    lake.lake.delete(k for k in lost if k.endswith(".parquet") and "_delta_log" not in k)
    lake.pipeline.lakehouse.drop_local_files()
    up_to_date(as_a_new_process(lake))


def test_the_lakes_settings_are_damaged(lake):
    three_days(lake)
    lake.lake.put("_stedi/settings.json", b"{")
    up_to_date(as_a_new_process(lake))
    forget(lake, "p1@example.com")


def test_the_lakes_settings_are_lost_and_the_salt_is_another(lake, monkeypatch):
    three_days(lake)
    lake.lake.delete(["_stedi/settings.json"])
    monkeypatch.setenv("STEDI_SUBJECT_SALT", "quite another salt of the tests")
    up_to_date(as_a_new_process(lake))


def test_names_of_objects_that_may_be_addresses_are_not_told(lake, capfd):
    three_days(lake)
    lake.lake.put("landing/customer/p1@example.com.json", person(1, 1, None).encode())
    result = CliRunner().invoke(main, ["catch-up"])
    assert "Ignored" in result.output
    assert "p1@" not in result.output
    with dg.DagsterInstance.ephemeral() as instance:
        tick(lake, instance)
    told = capfd.readouterr()
    assert "Ignored" in told.err + told.out
    assert "p1@" not in told.err + told.out


def test_what_s3_does_not_delete_and_audit_rows_are_named_without_an_address(
    lake, monkeypatch, caplog
):
    def refuse(**request):
        return {"Errors": [{**o, "Code": "AccessDenied"} for o in request["Delete"]["Objects"]]}

    monkeypatch.setattr(lake.lake.client, "delete_objects", refuse)
    lake.lake.put("_stedi/audit/p1@example.com.json", b"{}")
    assert audit_rows(lake.lake) == []
    assert "_stedi/audit/… is damaged" in caplog.text
    with pytest.raises(StediError, match=r"_stedi/audit/…: AccessDenied") as error:
        lake.lake.delete(["_stedi/audit/p1@example.com.json"])
    assert "p1@" not in str(error.value) + caplog.text


@pytest.mark.parametrize("name", ["c", "an odd name!"])
def test_s3_says_once_that_an_object_is_gone(lake, monkeypatch, name):
    lake.put(landed("customer", DATES[0], name, person(1, 0, T0)))
    client = lake.lake.client
    get_object, left = client.get_object, [1, 2]  # a copy is tried, then the exact parser

    def missing_once(**arguments: str) -> object:
        if arguments["Key"].endswith(name) and left:
            left.pop()
            answer = {"Error": {"Code": "NoSuchKey"}}
            raise ClientError(answer | {"ResponseMetadata": {"HTTPStatusCode": 404}}, "GetObject")
        return get_object(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, "get_object", missing_once)
        lake.catch_up()
    up_to_date(lake)


@pytest.mark.parametrize("meanwhile", ["gone", "replaced"])
def test_an_object_that_was_another_while_it_was_read_is_read_again(lake, monkeypatch, meanwhile):
    """By the end it is what was listed, to the etag; what was read was not."""
    monkeypatch.setattr(inputs, "_COPIED_BYTES", 0)  # read in S3, as Apache Spark does
    ((key, body),) = landed("customer", DATES[0], "c", person(1, 0, None)).items()
    lake.put({key: body})
    time.sleep(1.1)  # S3 says in whole seconds when an object was written
    replace = Lakehouse.replace

    def replaced(*arguments: object, **named: object) -> object:
        added = replace(*arguments, **named)
        lake.put({key: body})
        return added

    read = inputs.read_landed

    def read_another(*arguments: object) -> object:
        if meanwhile == "gone":
            lake.remove(key)
        else:
            lake.put({key: person(1, 0, T0).encode()})
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(inputs, "read_landed", read_another)
        patch.setattr(Lakehouse, "replace", replaced)
        lake.materialize(DATES[0], DATES[0], "customer_landing")
    up_to_date(lake)


@pytest.mark.parametrize("table", ["customers_curated", "accelerometer_trusted"])
def test_somebody_gives_a_table_other_columns(lake, table):
    three_days(lake)
    delta = by_delta_rs(lake, table)
    columns = delta.schema().to_arrow().names
    rows = delta.to_pyarrow_table().drop_columns(["serialNumber" if table[0] == "c" else "x"])
    partition = ["ingest_date"] if TABLES[table].partitioned else None
    write_deltalake(delta, rows, mode="overwrite", schema_mode="overwrite", partition_by=partition)
    up_to_date(as_a_new_process(lake))
    assert by_delta_rs(lake, table).schema().to_arrow().names == columns


def made_anew(lake, table: str, by: list[str] | None, *, nullable: bool = True) -> None:
    """A table with the contract's columns and no rows, in the place of ours: by somebody."""
    rows = by_delta_rs(lake, table).to_pyarrow_table(columns=TABLES[table].column_names)
    columns = pa.schema(column.with_nullable(nullable) for column in rows.schema)
    uri = lake.settings.uri(TABLES[table].path)
    lake.lake.delete_below(f"{TABLES[table].path}/")
    options = lake.lake.storage_options
    write_deltalake(uri, columns.empty_table(), partition_by=by, storage_options=options)


OTHERWISE = pytest.mark.parametrize(
    ("table", "by", "nullable"),
    [
        ("accelerometer_trusted", None, True),
        ("customers_curated", ["ingest_date"], True),
        ("customers_curated", None, False),
    ],
    ids=["not partitioned", "partitioned", "not null"],
)


@OTHERWISE
def test_somebody_makes_a_table_anew_otherwise(lake, table, by, nullable):
    """Other readers would take our files' ingest dates for nulls, or refuse our rows."""
    three_days(lake)
    made_anew(lake, table, by, nullable=nullable)
    other = as_a_new_process(lake)
    up_to_date(other)
    delta = by_delta_rs(lake, table)
    assert delta.metadata().partition_columns == (["ingest_date"] if table[0] == "a" else [])
    assert all(column.nullable for column in delta.schema().fields)
    assert delta.to_pyarrow_table().num_rows == len(other.table(table)) > 0


@OTHERWISE
def test_a_checkpoint_says_too_that_somebody_made_a_table_otherwise(lake, table, by, nullable):
    lake.lake.put(entry_path(TABLES[table], 0), first_entry(TABLES[table]))
    made_anew(lake, table, by, nullable=nullable)
    write_checkpoint(lake.lake, TABLES[table])
    lake.lake.put(entry_path(TABLES[table], 1), b"{}")
    assert read_log(lake.lake, TABLES[table]) is None


@pytest.mark.parametrize("table", [*TABLES.values(), *ROLLUP_TABLES], ids=lambda t: t.name)
def test_a_checkpoint_of_a_table_as_we_make_it_is_read(lake, table):
    lake.lake.put(entry_path(table, 0), first_entry(table))
    write_checkpoint(lake.lake, table)
    lake.lake.put(entry_path(table, 1), b"{}")
    lake.lake.delete([entry_path(table, 0)])
    assert read_log(lake.lake, table).table_id


LEAF = "machine_learning_curated"
FAST = ["accelerometer_landing"]
SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in TABLES if n not in (LEAF, *FAST)]


@pytest.mark.parametrize("table", [LEAF, *FAST, *SLOW])
def test_a_data_file_is_another_of_the_same_size(lake, table):
    """A table of readings stood in the way of a withdrawal, and of the leaf nobody knew."""
    three_days(lake)
    files = [k for k in keys(lake, f"{TABLES[table].path}/") if "/_delta_log/" not in k]
    for key in files:
        body = lake.lake.get(key)[0]
        lake.lake.put(key, body[:4] + bytes(byte ^ 0x55 for byte in body[4:-8]) + body[-8:])
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    up_to_date(as_a_new_process(lake))


def write_over(lake, prefix: str, column: str, value: object) -> None:
    """Another value in a column of all files below a prefix, which are as long as before."""
    for key in keys(lake, prefix):
        if "/_delta_log/" in key:
            continue
        body = lake.lake.get(key)[0]
        rows = pq.ParquetFile(io.BytesIO(body)).read()
        at = rows.schema.get_field_index(column)
        values = pa.array([value] * rows.num_rows, rows.schema.field(at).type)
        rows = rows.set_column(at, rows.schema.field(at), values)
        file = io.BytesIO()
        pq.write_table(rows, file, compression="zstd", use_dictionary=False, write_statistics=False)
        new = file.getvalue()
        footer = int.from_bytes(new[-8:-4], "little") + 8
        new = new[:-footer] + bytes(len(body) - len(new)) + new[-footer:]
        assert len(new) == len(body)
        lake.lake.put(key, new)


def write_over_readings(lake, table: str, day: date) -> None:
    write_over(lake, f"{TABLES[table].path}/ingest_date={day}", "x", 9.0)


def test_a_data_file_that_was_written_over_is_read_for_a_new_date(lake):
    """It is put right after that, under the same identity: what was read of it must not count."""
    three_days(lake)
    write_over_readings(lake, "accelerometer_trusted", DATES[0])
    lake.put(landed("step_trainer", DATES[2] + timedelta(1), "late", device(1, 0)))
    as_a_new_process(lake).catch_up()
    assert as_a_new_process(lake).differences() == {}


def then_the_person_withdraws(lake) -> None:
    lake.put(WITHDRAWN)
    up_to_date(as_a_new_process(lake))


def test_who_is_in_is_computed_from_customers_that_were_written_over(lake):
    """The new date's rows are of people who are not in its hash: nobody would miss them."""
    three_days(lake)
    write_over(lake, f"{TABLES['customer_landing'].path}/", "shareWithResearchAsOfDate", None)
    lake.put(landed("accelerometer", NEXT_DATE, "late", phone(1, 9000)))
    names = ("accelerometer_landing", "accelerometer_trusted")
    as_a_new_process(lake).materialize(NEXT_DATE, NEXT_DATE, *names)
    then_the_person_withdraws(lake)


@pytest.mark.parametrize("first", ["membership", "customers_curated"])
def test_a_roll_up_is_made_of_files_that_are_put_back_afterwards(lake, first):
    """Neither it nor who is in by it is kept: by their paths the files are the same as ever."""
    three_days(lake)
    folder = f"{TABLES['accelerometer_landing'].path}/ingest_date="
    files = {key: lake.lake.get(key)[0] for key in keys(lake, folder)}
    lake.lake.delete_below("_stedi/rollups/")
    write_over(lake, folder, "user", "nobody")
    if first == "membership":
        lake.lake.delete(["_stedi/membership.json"])
        as_a_new_process(lake).pipeline.state()
    else:
        as_a_new_process(lake).materialize(None, None, first)
    for key, body in files.items():
        lake.lake.put(key, body)
    as_a_new_process(lake).materialize(DATES[0], DATES[0], "accelerometer_trusted")
    up_to_date(as_a_new_process(lake))
    then_the_person_withdraws(lake)


def test_a_roll_up_is_written_over(lake):
    three_days(lake)
    write_over(lake, "_stedi/rollups/dates_of_users/", "user", "nobody")
    lake.lake.delete(["_stedi/membership.json"])
    as_a_new_process(lake).materialize(DATES[0], DATES[0], "accelerometer_trusted")
    then_the_person_withdraws(lake)


def test_a_data_file_that_was_written_over_is_built_again_while_another_computes_with_it(
    lake, monkeypatch
):
    """Under the same identity: the other's write is not refused, and must not count."""
    monkeypatch.setattr(Lakehouse, "drop_local_files", lambda _: None)  # both are in this process
    three_days(lake)
    write_over_readings(lake, "accelerometer_trusted", DATES[1])
    other, table = as_a_new_process(lake).pipeline, TABLES["machine_learning_curated"]
    batch = other.read_and_compute(table, [DATES[1]])
    as_a_new_process(lake).catch_up()
    other.write(table, [DATES[1]], batch)
    as_a_new_process(lake).catch_up()
    assert as_a_new_process(lake).differences() == {}


def test_a_data_file_is_put_back_after_it_was_copied_and_before_that_is_looked_at(lake):
    """Who is in is computed from copies of it; the job that comes next reads them again."""
    three_days(lake)
    table = TABLES["customer_landing"]
    lake.put(landed("customer", NEXT_DATE, "c", person(3, 3, T0)))
    killed = as_a_new_process(lake).pipeline  # before it has looked who is in
    killed.write(table, [NEXT_DATE], killed.read_and_compute(table, [NEXT_DATE]))
    killed.lakehouse.drop_local_files()
    folder = f"{table.path}/ingest_date={DATES[0]}"
    files = {key: lake.lake.get(key)[0] for key in keys(lake, folder)}
    write_over(lake, folder, "shareWithResearchAsOfDate", None)
    other = as_a_new_process(lake)
    with dg.DagsterInstance.ephemeral() as instance:
        run = run_here(other.defs, instance)

        def put_back_and_run(planned):
            for key, body in files.items():
                lake.lake.put(key, body)
            run(planned)

        catch_up(other.pipeline, put_back_and_run, print)
    assert as_a_new_process(lake).differences() == {}
    then_the_person_withdraws(lake)


def test_a_roll_up_is_made_of_a_file_that_no_entry_knows(lake, monkeypatch):
    """Somebody wrote it over, and it is built again between the reading of log and of ledger."""
    monkeypatch.setattr(Lakehouse, "drop_local_files", lambda _: None)  # both are in this process
    three_days(lake)
    other, landing = as_a_new_process(lake).pipeline, TABLES["accelerometer_landing"]
    other.state()
    for day in (DATES[0], DATES[2]):  # the second person has readings on these
        write_over(lake, f"{landing.path}/ingest_date={day}", "user", "nobody")
    other.refresh()
    as_a_new_process(lake).catch_up()
    other._reader.ledgers[landing.name] = read_ledger(lake.lake, landing)
    table = TABLES["customers_curated"]
    other.write(table, None, other.read_and_compute(table, None))
    up_to_date(as_a_new_process(lake))


def test_a_roll_ups_manifest_names_a_date_that_is_none(lake):
    three_days(lake)
    manifest = json.loads(lake.lake.get(rollups.DATES_OF_USERS.manifest)[0])
    manifest["dates"]["junk"] = "x"
    lake.lake.put(rollups.DATES_OF_USERS.manifest, json.dumps(manifest).encode())
    then_the_person_withdraws(lake)


def test_a_roll_ups_file_goes_after_it_was_listed(lake, monkeypatch):
    three_days(lake)
    read, gone = rollups._read_manifest, []

    def goes(lakehouse, rollup):
        held = read(lakehouse, rollup)
        if rollup is rollups.DATES_OF_USERS and not gone:
            files = keys(lake, "_stedi/rollups/dates_of_users/month=")
            gone.extend(files)
            lake.lake.delete(files)
        return held

    monkeypatch.setattr(rollups, "_read_manifest", goes)
    then_the_person_withdraws(lake)
    assert gone


def test_a_compaction_of_a_data_file_that_was_written_over_does_not_make_it_ours(lake):
    three_days(lake)
    table = TABLES["accelerometer_trusted"]
    # Two files of a date, as a big one has: compaction makes one of them.
    rows = by_delta_rs(lake, table.name).to_pyarrow_table([("ingest_date", "=", str(DATES[0]))])
    delta = by_delta_rs(lake, table.name)
    write_deltalake(
        delta, rows.slice(0, 1), mode="overwrite", predicate=f"ingest_date = '{DATES[0]}'"
    )
    write_deltalake(by_delta_rs(lake, table.name), rows.slice(1), mode="append")
    pipeline = as_a_new_process(lake).pipeline
    pipeline.refresh()
    before = pipeline.lakehouse.log(table)
    ledger = pipeline.ledger(table)
    listed = pipeline.lakehouse.data_files(table)
    etags = {f.path: listed[f.path].etag for f in before.of(DATES[0])}
    entry = replace(
        ledger.entries[DATES[0]],
        files=files_of(before, DATES[0]),
        contents=contents_of(etags),
    )
    record(lake.lake, table, ledger, before.table_id, {DATES[0]: entry})
    write_over_readings(lake, table.name, DATES[0])
    vacuum.purge(as_a_new_process(lake).pipeline, timedelta(0))
    up_to_date(as_a_new_process(lake))


@pytest.mark.parametrize("table", [LEAF, *FAST, *SLOW])
def test_a_data_file_is_cut_off(lake, table):
    """Of a table that nothing follows from, too: then nobody reads it but its users."""
    three_days(lake)
    files = [k for k in keys(lake, f"{TABLES[table].path}/") if "/_delta_log/" not in k]
    for key in files:
        lake.lake.put(key, lake.lake.get(key)[0][:100])
    up_to_date(as_a_new_process(lake))


PROTOCOLS = [
    {"minReaderVersion": 2, "minWriterVersion": 5},
    {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]},
    {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    },
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["column mapping", "row tracking", "vectors"])
def test_somebody_raises_a_tables_protocol(lake, protocol):
    """Erasure could not clean the table, or nobody could read it."""
    three_days(lake)
    number = len(log_entries(lake, "customers_curated"))
    entry = f"{TABLES['customers_curated'].path}/_delta_log/{number:020}.json"
    lake.lake.put(entry, json.dumps({"protocol": protocol}).encode())
    lake.put(WITHDRAWN)
    other = as_a_new_process(lake)
    up_to_date(other)
    assert (
        vacuum.erase(other.pipeline, other.catch_up_without_new_dates, timedelta(0)).problems == []
    )
    assert "p1@example.com" not in everything_in(lake, "trusted", "curated")


LEDGER = "_stedi/ledger/customer_landing.json"
TRUSTED_LOG = f"{TABLES['customer_trusted'].path}/_delta_log/"
HINT = f"{TRUSTED_LOG}_last_checkpoint"


def ledger_with(figures: str) -> bytes:
    entry = f'{{"inputs":{{}},"files":"",{figures}}}'
    return f'{{"table_id":"x","entries":{{"2022-06-18":{entry}}}}}'.encode()


@pytest.mark.parametrize(
    ("key", "damaged"),
    [
        (LEDGER, b'{"table_id":"x","entries":{"2022-06-18":{"inputs":null,"files":""}}}'),
        (LEDGER, b'{"table_id":"x","entries":[]}'),
        (LEDGER, ledger_with('"rows":1e999')),
        (LEDGER, ledger_with('"rows":NaN')),
        (LEDGER, ledger_with(f'"newest_object":1{"0" * 400}')),
        ("_stedi/membership.json", b'{"key":"","sets":{"customers_curated":{"all":[1e999,""]}}}'),
        (HINT, b'{"version":1e999}'),
        (LEDGER, ledger_with('"rows":"\\ud800"')),
        (LEDGER, ledger_with('"run_id":"\\ud800"')),
        (LEDGER, b"\xed\xa0\x80"),
        ("_stedi/settings.json", b"{}"),
        ("_stedi/settings.json", b"[]"),
        ("_stedi/membership.json", b"{}"),
        ("_stedi/rollups/dates_of_users.json", b"{}"),
    ],
)
def test_what_is_kept_is_json_of_another_shape(lake, key, damaged):
    three_days(lake)
    lake.lake.put(key, damaged)
    up_to_date(as_a_new_process(lake))


@pytest.mark.parametrize(
    "key",
    [
        LEDGER,
        "_stedi/settings.json",
        "_stedi/membership.json",
        "_stedi/rollups/dates_of_users.json",
        HINT,
        f"{TRUSTED_LOG}{0:020}.json",
    ],
)
def test_what_is_kept_is_json_nested_too_deeply(lake, key):
    """Python says so by another error than of any other damage."""
    three_days(lake)
    lake.lake.put(key, b"[" * 200_000)
    lake.put(WITHDRAWN)
    up_to_date(as_a_new_process(lake))


AUDIT_ROW = {"when": "2026-01-01T00:00:00+00:00", "command": "stedi forget", "subject_id": "s"}


@pytest.mark.parametrize(
    "damaged",
    [
        *("", "{", "{}", "[]", "7", "null", '{"when":"x"}', "[" * 100_000),
        json.dumps(AUDIT_ROW | {"subject_id": 7}),
        json.dumps(AUDIT_ROW | {"rows": [1]}),
        json.dumps(AUDIT_ROW | {"rows": {"customer_landing": "1"}}),
        json.dumps(AUDIT_ROW | {"unreadable_objects": 1}),
        json.dumps(AUDIT_ROW).encode("utf-16"),
    ],
    ids=range(13),
)
def test_an_audit_row_that_is_none_is_left_out_with_a_warning(lake, caplog, damaged):
    body = damaged if isinstance(damaged, bytes) else damaged.encode()
    lake.lake.put("_stedi/audit/1.json", body)
    lake.lake.put("_stedi/audit/2.json", json.dumps(AUDIT_ROW).encode())
    assert audit_rows(lake.lake) == [AUDIT_ROW]
    assert "_stedi/audit/1.json is damaged" in caplog.text
    result = CliRunner().invoke(main, ["audit"])
    assert result.exit_code == 0, result.exception
    assert "stedi forget" in result.output


def test_values_of_an_audit_row_are_shown_as_text(lake):
    odd = {"when": "2022[/bold]", "command": "[red]\x1b[31m", "subject_id": "[/]"}
    lake.lake.put("_stedi/audit/1.json", json.dumps(odd).encode())
    result = CliRunner().invoke(main, ["audit"])
    assert result.exit_code == 0, result.exception
    assert all(text in result.output for text in ("2022[/bold]", "[red]\\x1b[31m", "[/]"))


def test_nobody_waits_for_an_audit_row_that_is_none(lake):
    three_days(lake)
    lake.lake.put("_stedi/audit/1.json", b'{"when":"x"}')
    lake.put(WITHDRAWN)
    assert CliRunner().invoke(main, ["catch-up"]).exit_code == 0
    up_to_date(lake)


def test_a_log_entry_with_an_action_that_says_nothing(lake):
    three_days(lake)
    newest = log_entries(lake, "customers_curated")[-1]
    lake.lake.put(newest, b"{}\n" + lake.lake.get(newest)[0])
    up_to_date(as_a_new_process(lake))


def test_all_that_landed_and_all_that_is_kept_is_lost(lake):
    three_days(lake)
    lake.lake.delete([*keys(lake, "landing/"), *keys(lake, "_stedi/")])
    lake.objects.clear()
    up_to_date(as_a_new_process(lake))


@pytest.mark.parametrize("damage", ["lost", "garbage", "of version 0"])
def test_a_checkpoint_or_the_hint_at_it_is_damaged(lake, damage):
    """Whoever reads by Delta cannot open the table then, though its log is whole."""
    three_days(lake)
    write_checkpoint(lake.lake, TABLES["customers_curated"])
    log = f"{TABLES['customers_curated'].path}/_delta_log/"
    checkpoints = [key for key in keys(lake, log) if ".checkpoint." in key]
    assert checkpoints
    if damage == "lost":
        lake.lake.delete(checkpoints)
    else:
        hint = {"garbage": b"garbage", "of version 0": b'{"version":0,"size":3}'}[damage]
        lake.lake.delete(checkpoints)
        lake.lake.put(f"{log}_last_checkpoint", hint)
    up_to_date(as_a_new_process(lake))  # read by delta-rs


def test_a_checkpoint_and_the_hint_at_it_are_put_back_from_an_older_copy(lake):
    """Whoever goes by the hint, then entry by entry (Trino), would see who withdrew since."""
    three_days(lake)
    table = TABLES["customers_curated"]
    write_checkpoint(lake.lake, table)
    log = f"{table.path}/_delta_log/"
    copy = {key: lake.lake.get(key)[0] for key in keys(lake, log)}
    lake.put(WITHDRAWN)
    lake.catch_up()
    vacuum.purge(lake.pipeline, timedelta(0))
    assert log_entries(lake, table.name)[0] not in copy
    for key, body in copy.items():
        lake.lake.put(key, body)
    up_to_date(as_a_new_process(lake))
    assert is_read_by_the_hint(lake, table)


def test_the_hint_at_a_checkpoint_is_lost_and_the_entries_before_it_are_gone(lake):
    three_days(lake)
    table = TABLES["customers_curated"]
    vacuum.purge(lake.pipeline, timedelta(0))
    lake.lake.delete([f"{table.path}/_delta_log/_last_checkpoint"])
    up_to_date(as_a_new_process(lake))
    assert is_read_by_the_hint(lake, table)


def is_read_by_the_hint(lake, table: Table) -> bool:
    """Whether the hint is there, and no entry is missing from its checkpoint to the newest."""
    version = json.loads(lake.lake.get(f"{table.path}/_delta_log/_last_checkpoint")[0])["version"]
    newest = int(log_entries(lake, table.name)[-1].rpartition("/")[2][:20])
    wanted = {entry_path(table, v) for v in range(version + 1, newest + 1)}
    return version <= newest and wanted <= set(log_entries(lake, table.name))


def customer_that_is_long() -> str:
    return json.dumps(json.loads(person(1, 1, None)) | {"unknown": "x" * 2000})


def test_a_limit_that_made_an_object_unreadable_is_raised(new_lake, monkeypatch):
    """It says that a person withdraws, and none of its dates' objects changed."""
    lake = new_lake(max_object_bytes="2000")
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0), person(2, 0, T0)))
    lake.put(landed("accelerometer", DATES[0], "a", phone(1, 0), phone(2, 1)))
    lake.put(landed("customer", DATES[1], "w", customer_that_is_long()))
    lake.catch_up()
    assert "p1@example.com" in str(lake.table("customer_trusted"))
    monkeypatch.delenv("STEDI_MAX_OBJECT_BYTES")
    up_to_date(as_a_new_process(lake))


@contextmanager
def refusing(lake, name: str) -> Iterator[None]:
    """Within it S3 does not give objects that end so: they are archived."""
    get_object = lake.lake.client.get_object

    def refuse(**arguments: str) -> object:
        if arguments["Key"].endswith(name):
            answer = {"Error": {"Code": "InvalidObjectState"}}
            raise ClientError(answer | {"ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")
        return get_object(**arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake.lake.client, "get_object", refuse)
        yield


@pytest.mark.parametrize("lost", ["", "_stedi/ledger/customer_landing.json"])
def test_a_withdrawal_whose_object_was_archived_is_not_forgotten(lake, lost):
    three_days(lake)
    lake.put(WITHDRAWN)
    lake.catch_up()
    lake.put(landed("customer", DATES[2], "late", person(3, 1, T0)))
    lake.put(landed("customer", DATES[1], "late", person(4, 1, T0)))
    if lost:
        lake.lake.delete([lost])
    with refusing(lake, "withdrawn"):
        (failure,) = build_out_of_date(lake.pipeline).failures
    assert "S3 refuses to give" in failure
    assert f"ingest_date={DATES[2]}/withdrawn, which was read before" in failure
    assert "p1@example.com" not in str(lake.table("customer_trusted"))
    assert "p4@example.com" in str(lake.table("customer_trusted"))
    up_to_date(as_a_new_process(lake))


def test_a_customers_object_that_was_refused_from_the_first_holds_up_no_other_of_its_date(lake):
    three_days(lake)
    time.sleep(1)  # S3 tells whole seconds
    lake.put(landed("customer", DATES[0], "denied", person(3, 1, T0)))
    lake.put(landed("customer", DATES[0], "withdrawal", person(1, 1, None)))
    with refusing(lake, "denied"):
        assert build_out_of_date(lake.pipeline).failures == []
        lake.put(landed("customer", DATES[0], "more", person(4, 1, T0)))
        assert build_out_of_date(lake.pipeline).failures == []
    trusted = str(lake.table("customer_trusted"))
    assert [f"p{n}@example.com" in trusted for n in (1, 3, 4)] == [False, False, True]
    up_to_date(as_a_new_process(lake))


@pytest.mark.parametrize("how", ["catch-up", "by hand"])
def test_an_object_that_s3_refused_is_read_once_it_is_given(lake, how):
    """Where S3 gives others of the date it is one malformed record, and blocks nothing."""
    three_days(lake)
    lake.put(WITHDRAWN | landed("customer", DATES[2], "fine", person(3, 1, T0)))
    with refusing(lake, "withdrawn"):
        lake.catch_up()
        assert lake.catch_up() == 0
    assert "p1@example.com" in str(lake.table("customer_trusted"))
    commits = len(log_entries(lake, "customer_landing"))
    if how == "by hand":
        lake.materialize(DATES[2], DATES[2], "customer_landing")
    up_to_date(as_a_new_process(lake))
    assert len(log_entries(lake, "customer_landing")) == commits + 1
