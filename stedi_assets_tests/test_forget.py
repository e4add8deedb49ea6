"""`stedi forget` takes exactly one person, ends whatever is broken, and says what it did."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from stedi_assets.cli.main import main
from stedi_assets.errors import StediError
from stedi_assets.incremental.rebuild import drop_tables
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.privacy import forget as forget_module
from stedi_assets.privacy import landed_objects, subject_access, unfinished, vacuum
from stedi_assets.privacy.audit import AUDIT_FOLDER, audit_rows, landed_again
from stedi_assets.privacy.forget import forget
from stedi_assets.privacy.whose_record import Person, Redaction
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.odd_data import T0, compact
from stedi_assets_tests.test_catch_up import DATES, landed, person, phone, three_days
from stedi_assets_tests.test_erasure import everything_in


def customer(email: str, device: str) -> str:
    record = {"registrationDate": T0, "lastUpdateDate": T0, "shareWithResearchAsOfDate": T0}
    return compact({"email": email, "serialNumber": device} | record)


def reading(email: str, moment: int = T0) -> str:
    return compact({"user": email, "timestamp": moment, "x": 1.0, "y": 2.0, "z": 3.0})


def step(device: str, moment: int = T0) -> str:
    return compact({"sensorReadingTime": moment, "serialNumber": device, "distanceFromObject": 7})


def land(lake, *people: tuple[str, str]) -> None:
    lake.put(landed("customer", DATES[0], "c", *(customer(*one) for one in people)))
    lake.put(landed("accelerometer", DATES[0], "a", *(reading(email) for email, _ in people)))
    lake.put(landed("step_trainer", DATES[0], "s", *(step(device) for _, device in people)))


def forgotten(lake, email: str, catch_up=None):
    ways = (catch_up,) * 2 if catch_up else (lake.catch_up_without_new_dates, lake.catch_up)
    return forget(lake.pipeline, email, *ways, list)


def rows(lake) -> dict[str, int]:
    return {name: sum(lake.table(name).values()) for name in TABLES}


def broken() -> None:
    raise StediError("2022-06-18 cannot be built.")


def forgotten_until_old_files_are_deleted(lake) -> None:
    """Ann with dev-1 is, beside Bob with dev-2; the process is killed then."""
    land(lake, ("ann@example.com", "dev-1"), ("bob@example.com", "dev-2"))
    lake.catch_up()

    def killed(*_arguments: object) -> None:
        raise RuntimeError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vacuum, "purge", killed)
        with pytest.raises(RuntimeError):
            forgotten(lake, "ann@example.com")


def test_a_similar_address_keeps_every_row(lake):
    land(lake, ("brien@example.com", "dev-1"), ("o'brien@example.com", "dev-2"))
    lake.catch_up()
    assert set(rows(lake).values()) == {2}
    result = forgotten(lake, "brien@example.com")
    assert result.problems == []
    assert result.audit["rows"] == dict.fromkeys(TABLES, 1)
    assert set(rows(lake).values()) == {1}
    assert "o'brien@example.com" in str(lake.table("customers_curated"))


def test_malformed_text_goes_and_what_cannot_be_searched_is_named(lake):
    land(lake, ("ann@example.com", "d1"))
    encoded = "%7B%22user%22:%22ann@example.com%22,%22timestamp%22:1%7D"
    lake.put(landed("accelerometer", DATES[0], "u.json", encoded))
    utf16 = f"landing/accelerometer/ingest_date={DATES[0]}/u16.json"
    lake.put({utf16: reading("ann@example.com").encode("utf-16-le")})
    lake.catch_up()
    assert rows(lake)["accelerometer_landing"] >= 3
    result = forgotten(lake, "ann@example.com")
    assert result.audit["rows"]["accelerometer_landing"] == 2
    assert result.audit["unreadable_objects"] == [utf16]
    assert "%22ann" not in str(lake.table("accelerometer_landing"))
    assert rows(lake)["customer_landing"] == 0


@pytest.mark.slow
def test_of_a_thousand_people_with_similar_addresses_exactly_one_goes(lake):
    stems = ["ann", "o'ann", "ann.b", "ann-b", "ann+b", "ann&b", "b=ann", "éann", "anné", "ann_b"]
    people = [f"{stem}@{n}example.com" for n in ["", *range(1, 100)] for stem in stems]
    land(lake, *((email, f"dev-{n}") for n, email in enumerate(people)))
    lake.catch_up()
    before = {name: lake.table(name) for name in TABLES}
    result = forgotten(lake, "ann@example.com")
    assert result.audit["rows"] == dict.fromkeys(TABLES, 1)
    for name in TABLES:
        assert sum((before[name] - lake.table(name)).values()) == 1
        assert not lake.table(name) - before[name]


@pytest.mark.slow
def test_a_date_that_cannot_be_built_does_not_stop_it(lake):
    three_days(lake)
    result = forgotten(lake, "p1@example.com", broken)
    assert result.problems == ["2022-06-18 cannot be built."]
    assert result.audit["completed"] is False
    assert result.audit["rows_left"] == {}
    assert result.audit["rows"]["step_trainer_landing"] == 1
    for name in TABLES:
        assert "p1@example.com" not in str(lake.table(name))
    assert rows(lake)["machine_learning_curated"] == 2
    lake.catch_up()
    assert rows(lake)["customer_landing"] == 1


@pytest.mark.slow
def test_beside_a_date_that_cannot_be_built_erase_cleans_and_says_so(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    result = vacuum.erase(lake.pipeline, broken, timedelta(0))
    assert result.problems == ["2022-06-18 cannot be built."]
    assert result.removed > 0
    assert result.kept == 0


@pytest.mark.slow
def test_a_table_that_was_compacted_is_still_up_to_date(lake):
    three_days(lake)
    for moment in (5, 6):
        lake.put(landed("accelerometer", DATES[0], f"more{moment}", phone(2, moment)))
        lake.catch_up()
    assert vacuum.erase(lake.pipeline, lake.catch_up_without_new_dates, timedelta(7)).problems == []
    assert lake.differences() == {}
    assert lake.catch_up() == 0


@pytest.mark.slow
def test_an_order_that_is_cut_short_leaves_an_audit_row_and_can_be_repeated(lake, monkeypatch):
    three_days(lake)

    def cut_short(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(vacuum, "purge", cut_short)
        with pytest.raises(KeyboardInterrupt):
            forgotten(lake, "p1@example.com")
    assert [row["completed"] for row in audit_rows(lake.lake)] == [False]
    lake.put(landed("accelerometer", DATES[0], "again", phone(1, 5)))
    assert forgotten(lake, "p1@example.com").audit["completed"] is True
    assert [row["completed"] for row in audit_rows(lake.lake)] == [False, True]


UNFINISHED = "_stedi/unfinished_forget"


@pytest.mark.parametrize("request_name", ["get_object", "put_object"])
def test_a_repeated_order_takes_out_readings_that_s3_refused_at_first(
    lake, monkeypatch, request_name
):
    """The records that name the device as the person's are gone by then."""
    land(lake, ("ann@example.com", "dev-ann"), ("bob@example.com", "dev-bob"))
    lake.catch_up()
    key = f"landing/step_trainer/ingest_date={DATES[0]}/s"
    client = lake.lake.client
    ask = getattr(client, request_name)

    def refusing(**arguments):
        if arguments["Key"].endswith(key):
            answer = {"Error": {"Code": "AccessDenied"}}
            raise ClientError(answer | {"ResponseMetadata": {"HTTPStatusCode": 403}}, request_name)
        return ask(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, request_name, refusing)
        first = forgotten(lake, "ann@example.com")
    assert not first.audit["completed"]
    assert b"dev-ann" in lake.lake.get(key)[0]
    again = forgotten(lake, "ann@example.com")
    assert again.audit["completed"], again.problems
    assert b"dev-ann" not in lake.lake.get(key)[0]
    assert b"dev-bob" in lake.lake.get(key)[0]
    assert list(lake.lake.objects(UNFINISHED)) == []


@contextmanager
def whose_devices_are_not_told(lake, path: str) -> Iterator[None]:
    """S3 answers 503 for a customer object while `forget` looks whose devices are."""
    client, claims = lake.lake.client, forget_module.claims_in_objects
    get = client.get_object

    def refusing(**arguments):
        if arguments["Key"].endswith(path):
            answer = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
            raise ClientError(answer, "GetObject")
        return get(**arguments)

    def claims_in_objects(store, person):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "get_object", refusing)
            return claims(store, person)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forget_module, "claims_in_objects", claims_in_objects)
        yield


def failing_once(lake):
    """A catch-up that fails the first time."""
    failed = []

    def catch_up() -> int:
        if failed:
            return lake.catch_up()
        failed.append(True)
        raise StediError("2022-06-18 cannot be built.")

    return catch_up


def test_readings_wait_for_the_next_order_where_a_customer_object_is_not_given(lake):
    """Else the record that names the device would be gone, and its readings be nobody's."""
    land(lake, ("ann@example.com", "dev-1"))
    with whose_devices_are_not_told(lake, f"customer/ingest_date={DATES[0]}/c"):
        first = forgotten(lake, "ann@example.com", failing_once(lake))
    assert "Readings of devices stay" in first.problems[0]
    assert not first.audit["completed"]
    again = forgotten(lake, "ann@example.com")
    assert again.audit["completed"], again.problems
    assert "dev-1" not in everything_in(lake, "landing", "_stedi")


def test_a_repeated_order_takes_nothing_while_the_new_owners_record_is_not_given(lake):
    forgotten_until_old_files_are_deleted(lake)
    lake.put(landed("customer", DATES[1], "bob", customer("bob@example.com", "dev-1")))
    lake.put(landed("step_trainer", DATES[1], "s", step("dev-1")))
    with whose_devices_are_not_told(lake, "/bob"):
        assert not forgotten(lake, "ann@example.com", failing_once(lake)).audit["completed"]
    again = forgotten(lake, "ann@example.com")
    assert again.audit["completed"], again.problems
    assert b"dev-1" in lake.lake.get(f"landing/step_trainer/ingest_date={DATES[1]}/s")[0]


def test_what_tables_know_of_a_shared_device_counts_where_catch_up_fails(lake, monkeypatch):
    """The other's object is archived by then."""
    lake.put(landed("customer", DATES[0], "ann", customer("ann@example.com", "dev-1")))
    lake.put(landed("customer", DATES[0], "bob", customer("bob@example.com", "dev-1")))
    lake.put(landed("step_trainer", DATES[0], "s", step("dev-1")))
    lake.catch_up()
    client = lake.lake.client
    get = client.get_object

    def refusing(**arguments):
        if arguments["Key"].endswith("/bob"):
            raise ClientError({"Error": {"Code": "InvalidObjectState"}}, "GetObject")
        return get(**arguments)

    monkeypatch.setattr(client, "get_object", refusing)
    result = forgotten(lake, "ann@example.com", failing_once(lake))
    assert result.audit["devices_shared_with_others"] == 1
    assert b"dev-1" in lake.lake.get(f"landing/step_trainer/ingest_date={DATES[0]}/s")[0]


def test_an_order_that_another_about_the_same_person_overtakes_is_not_done(lake, monkeypatch):
    """It knows no device: the other has taken out the records, and could not take the readings."""
    land(lake, ("ann@example.com", "dev-1"))
    lake.put(landed("step_trainer", DATES[1], "refused", step("dev-1")))
    put = ObjectStore.put

    def refusing(store, path, body, **condition):
        if path.endswith("/refused"):
            raise StediError("S3 refused it.")
        return put(store, path, body, **condition)

    claims = forget_module.claims_in_objects

    def overtaken(store, person):
        with monkeypatch.context() as patch:
            patch.setattr(ObjectStore, "put", refusing)
            patch.setattr(forget_module, "claims_in_objects", claims)
            assert not forgotten(lake, "ann@example.com").audit["completed"]
        lake.put(landed("accelerometer", DATES[0], "new", reading("ann@example.com")))
        return claims(store, replace(person, devices=frozenset()))

    with monkeypatch.context() as patch:
        patch.setattr(forget_module, "claims_in_objects", overtaken)
        second = forgotten(lake, "ann@example.com")
    assert not second.audit["completed"]
    assert b"dev-1" in lake.lake.get(f"landing/step_trainer/ingest_date={DATES[1]}/refused")[0]
    third = forgotten(lake, "ann@example.com")
    assert third.audit["completed"], third.problems
    assert "dev-1" not in everything_in(lake, "landing", UNFINISHED)


def test_an_order_keeps_what_another_about_the_same_person_keeps(lake):
    person = Person("ann@example.com", frozenset(), "s", frozenset())
    mine = unfinished.begin(lake.lake, person, {"dev-1"})
    theirs = unfinished.begin(lake.lake, person, {"dev-2"})
    assert theirs.devices == {"dev-1", "dev-2"}
    assert "There is another order" in unfinished.end(lake.lake, person, mine)[0]
    assert unfinished.read(lake.lake, person) == theirs
    assert unfinished.end(lake.lake, person, theirs) == []
    assert unfinished.read(lake.lake, person) is None


@pytest.mark.parametrize(
    "damaged", ["{", '{"devices":"dev-1"}', '{"devices":[""]}', '{"devices":[7]}', "[" * 100_000]
)
def test_a_damaged_unfinished_order_names_no_device(lake, damaged):
    person = Person("ann@example.com", frozenset(), "s", frozenset())
    lake.lake.put(f"{UNFINISHED}/s.json", damaged.encode())
    assert unfinished.read(lake.lake, person).devices == frozenset()


def test_rows_that_the_landed_objects_will_bring_back_leave_the_order_open(lake, monkeypatch):
    land(lake, ("ann@example.com", "dev-1"))
    lake.catch_up()
    # Text that the engine reads as theirs and the search in objects does not.
    monkeypatch.setattr(landed_objects, "redact", lambda text, *_: Redaction(text))
    result = forgotten(lake, "ann@example.com")
    assert not result.audit["completed"]
    assert "the next run brings them back" in " ".join(result.problems)
    assert rows(lake)["customers_curated"] == 0


def test_records_that_have_not_landed_yet_count_for_whose_a_device_is(lake):
    land(lake, ("ann@example.com", "dev-1"))
    later = date(2999, 1, 1)
    lake.put(landed("customer", later, "bob", customer("bob@example.com", "dev-1")))
    lake.put(landed("step_trainer", later, "s", step("dev-1")))
    lake.put({"landing/customer/_tmp/c": customer("ann@example.com", "dev-9").encode()})
    lake.put({"landing/step_trainer/_tmp/s": step("dev-9").encode()})
    lake.catch_up()
    result = forgotten(lake, "ann@example.com")
    assert result.audit["completed"], result.problems
    assert b"dev-1" in lake.lake.get(f"landing/step_trainer/ingest_date={later}/s")[0]
    assert lake.lake.get("landing/step_trainer/_tmp/s")[0] == b""


def test_a_device_of_a_record_that_lands_meanwhile_is_kept_for_the_next_order(lake, monkeypatch):
    land(lake, ("ann@example.com", "dev-1"))
    lake.catch_up()
    claims = forget_module.claims_in_objects

    def landing_then(store, person):
        found = claims(store, person)
        lake.put(landed("customer", DATES[1], "new", customer("ann@example.com", "dev-2")))
        lake.put(landed("step_trainer", DATES[1], "new", step("dev-2")))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(forget_module, "claims_in_objects", landing_then)
        first = forgotten(lake, "ann@example.com")
    assert not first.audit["completed"]
    assert "named another device" in " ".join(first.problems)
    again = forgotten(lake, "ann@example.com")
    assert again.audit["completed"], again.problems
    assert "dev-2" not in everything_in(lake, "landing", "_stedi")


def test_an_order_whose_audit_row_is_not_kept_is_finished_by_the_next(lake, monkeypatch):
    land(lake, ("ann@example.com", "dev-1"))
    lake.catch_up()
    put_json = ObjectStore.put_json

    def refusing(store, path, value):
        if path.startswith(AUDIT_FOLDER) and value["completed"]:
            raise StediError("S3 is full.")
        return put_json(store, path, value)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put_json", refusing)
        assert forgotten(lake, "ann@example.com").problems
    assert forgotten(lake, "ann@example.com").audit["completed"]
    assert [row["completed"] for row in audit_rows(lake.lake)] == [False, True]


def test_hidden_files_in_a_tables_folder_go_when_no_write_can_need_them(lake, monkeypatch):
    """Vacuum leaves them for ever, and the person's rows in them."""
    land(lake, ("ann@example.com", "dev-1"))
    lake.catch_up()
    path = "curated/customers_curated/_temporary/0/part-0.parquet"
    lake.put({path: b"ann@example.com"})
    young = forgotten(lake, "ann@example.com")
    assert young.purge.kept == 1
    assert not young.audit["completed"]
    time.sleep(1.1)  # S3 says in whole seconds when an object was written
    monkeypatch.setattr(vacuum, "UNDER_WAY_HOURS", 0)
    assert forgotten(lake, "ann@example.com").audit["completed"]
    assert lake.lake.get(path) is None


def test_rows_that_hold_the_person_by_the_name_of_an_unreadable_object_are_said(lake):
    land(lake, ("ann@example.com", "dev-1"))
    lake.put({f"landing/customer/ingest_date={DATES[0]}/of ann@example.com 1.json.gz": b"no gzip"})
    lake.catch_up()
    result = forgotten(lake, "ann@example.com")
    assert not result.audit["completed"]
    assert "named after the person" in " ".join(result.problems)
    assert "ann@" not in " ".join(result.problems)


def test_a_rebuild_keeps_what_an_unfinished_order_needs(lake):
    forgotten_until_old_files_are_deleted(lake)
    drop_tables(lake.lake)
    assert len(list(lake.lake.objects(UNFINISHED))) == 1


def test_a_device_that_another_claims_meanwhile_is_not_taken_by_the_repeated_order(lake):
    forgotten_until_old_files_are_deleted(lake)
    lake.put(landed("customer", DATES[1], "c", customer("bob@example.com", "dev-1")))
    lake.put(landed("step_trainer", DATES[1], "s", step("dev-1")))
    again = forgotten(lake, "ann@example.com")
    assert again.audit["completed"], again.problems
    key = f"landing/step_trainer/ingest_date={DATES[1]}/s"
    assert b"dev-1" in lake.lake.get(key)[0]


@pytest.mark.parametrize("damaged", [False, True])
def test_an_order_that_was_cut_short_before_it_deleted_old_files_is_finished(lake, damaged):
    """Nothing in objects and tables is of the person by then; old data files are."""
    forgotten_until_old_files_are_deleted(lake)
    assert "ann@example.com" in everything_in(lake, "trusted", "curated")
    if damaged:
        for entry in lake.lake.objects(UNFINISHED):
            lake.lake.put(entry["Key"], b"[]")
    again = forgotten(lake, "ann@example.com")
    assert again.audit["completed"], again.problems
    assert "ann@example.com" not in everything_in(lake, "landing", "trusted", "curated", "_stedi")


def test_a_file_that_no_table_names_yet_keeps_an_order_from_being_complete(lake):
    """It may be of a write that was cut short, with rows of the person."""
    land(lake, ("ann@example.com", "dev-1"), ("bob@example.com", "dev-2"))
    lake.catch_up()
    lake.lake.put(f"{TABLES['customer_trusted'].path}/part-of-a-write.parquet", b"PAR1")
    first = forgotten(lake, "ann@example.com")
    assert not first.audit["completed"]
    assert "again" in first.problems[-1]


def test_an_audit_row_that_cannot_be_finished_is_a_problem(lake, monkeypatch):
    land(lake, ("ann@example.com", "d1"))
    lake.catch_up()
    put_json, written = ObjectStore.put_json, []

    def refuse(store, path: str, value: object) -> None:
        if path.startswith(AUDIT_FOLDER) and (written or written.append(path)):
            raise StediError("S3 is full.")
        put_json(store, path, value)

    monkeypatch.setattr(ObjectStore, "put_json", refuse)
    result = forgotten(lake, "ann@example.com")
    assert result.problems == ["The audit row says only that it was begun: S3 is full."]
    assert result.audit["completed"] is False
    assert [row["completed"] for row in audit_rows(lake.lake)] == [False]


def test_a_table_that_cannot_be_read_is_one_problem(lake, monkeypatch):
    land(lake, ("ann@example.com", "d1"))
    lake.catch_up()
    read = subject_access._held_in

    def refuse(lakehouse, table, person):
        if table.name == "customers_curated":
            raise StediError(f"It cannot be read (full text: {uuid.uuid4()}).")
        return read(lakehouse, table, person)

    monkeypatch.setattr(subject_access, "_held_in", refuse)
    result = forgotten(lake, "ann@example.com")
    assert len(result.problems) == 1
    with pytest.raises(StediError, match="1 tables could not be read"):
        forgotten(lake, "nobody@example.com")


def stedi(*command: str, given: "str | bytes" = "") -> tuple[int, str]:
    result = CliRunner().invoke(main, list(command), input=given)
    return result.exit_code, result.output


def test_somebody_unknown_is_one_line_and_no_audit_row(lake):
    three_days(lake)
    code, output = stedi("forget", given="nobody@example.com\n")
    assert code == 1
    assert output.splitlines() == [
        "stedi: No landed object and no table holds anything of this person: nothing was done."
    ]
    assert audit_rows(lake.lake) == []
    assert stedi("audit") == (0, "Nobody was forgotten in this lake.\n")


def said_until(process: subprocess.Popen, text: str) -> str:
    """What a process says, up to and with a text."""
    said = b""
    while text.encode() not in said:
        byte = process.stdout.read(1)
        assert byte, said.decode()
        said += byte
    return said.decode()


@contextmanager
def forget_on_a_terminal(**environ: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """`stedi forget` as somebody runs it who types, and what they type into."""
    terminal, its_input = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stedi_assets.cli", "forget"],
        env=os.environ | environ,
        stdin=its_input,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,  # or the prompt is shown on the terminal of the tests
    )
    give_up = threading.Timer(300, process.kill)
    give_up.start()
    try:
        yield process, terminal
    finally:
        give_up.cancel()
        process.kill()
        process.wait()
        os.close(terminal)
        os.close(its_input)


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "done"), [(b"n", False), (b"y", True)])
def test_on_a_terminal_it_asks_before_it_acts_and_shows_no_email(lake, answer, done):
    three_days(lake)
    with forget_on_a_terminal() as (process, terminal):
        # What is typed before a prompt is there is discarded.
        output = said_until(process, "Email: ")
        os.write(terminal, b"p1@example.com\n")
        output += said_until(process, "[y/N]")
        os.write(terminal, answer + b"\n")
        output += process.communicate()[0].decode()
        code = process.returncode
    assert code == int(not done), output
    assert "landed objects too, for good? [y/N]" in output
    assert "p1@" not in output
    assert len(audit_rows(lake.lake)) == done


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8:surrogateescape"])
def test_what_is_typed_and_is_not_utf8_is_one_line(encoding):
    with forget_on_a_terminal(PYTHONIOENCODING=encoding) as (process, terminal):
        said_until(process, "Email: ")
        os.write(terminal, b"ann\xff@example.com\n")
        output = process.communicate()[0].decode()
        code = process.returncode
    assert code == 1
    assert output.strip() == "stedi: Standard input is not UTF-8: give the email as UTF-8."


@pytest.mark.parametrize("command", ["forget", "consent"])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        (b"", "Give the email on standard input."),
        (b" \r\n", "Give the email on standard input."),
        (b"\xff\xfea\0n\0n\0", "Standard input is not UTF-8"),
    ],
)
def test_input_that_is_no_email_is_one_line(lake, command, given, why):
    code, output = stedi(command, given=given)
    assert code == 1
    assert output.startswith(f"stedi: {why}")
    assert len(output.splitlines()) == 1


ODD = ("ann smith@example.com", "Ann Smith <ann@example.com>", "\u00a0ann@example.com", "ann")


def test_whoever_is_recorded_by_what_is_no_address_can_be_forgotten_by_exactly_that(lake):
    land(lake, *((email, f"dev-{n}") for n, email in enumerate(["ann@example.com", *ODD])))
    lake.catch_up()
    for left, email in zip((4, 3, 2, 1), ODD, strict=True):
        code, output = stedi("consent", given=f"{email}\n")
        assert code == 0
        assert output.startswith("stedi: That is not one email address")
        assert '"known": true' in output
        code, output = stedi("forget", given=f"\ufeff{email}\r\n")
        assert output.startswith("stedi: That is not one email address")
        assert "ann" not in output.lower()
        assert code == 0
        assert set(rows(lake).values()) == {left}
    assert "ann@example.com" in str(lake.table("customers_curated"))


def test_two_lines_are_nobodys_email(lake):
    land(lake, ("ann@example.com", "d1"), ("bob@example.com", "d2"))
    lake.catch_up()
    code, output = stedi("forget", given="ann@example.com\nbob@example.com\n")
    assert code == 1
    assert output.splitlines()[0].startswith("stedi: That is not one email address")
    assert output.splitlines()[-1].endswith("nothing was done.")
    assert "example" not in output
    assert set(rows(lake).values()) == {2}


@pytest.mark.slow
def test_an_email_from_powershell_is_found_and_its_audit_row_is_listed(lake):
    three_days(lake)
    code, output = stedi("forget", given=b"\xef\xbb\xbfP1@example.com\r\n")
    assert code == 0
    assert "No file that left the tables remains." in output
    assert "DEBUG" not in output
    audit = json.loads("{" + output.partition("\n{")[2])
    code, listed = stedi("audit")
    assert code == 0
    assert audit["subject_id"][:24] in listed
    assert "stedi forget" in listed
    assert json.loads(stedi("audit", "--json")[1]) == [audit]
    assert audit["rows"]["machine_learning_curated"] == 1


@pytest.mark.slow
def test_a_forgotten_person_who_lands_again_is_counted_by_subject_id(lake):
    three_days(lake)
    audit = forgotten(lake, "p1@example.com").audit

    def again() -> dict[str, dict[str, int]]:
        frames = (
            lake.pipeline.lakehouse.read(TABLES[f"{name}_landing"])
            for name in ("customer", "accelerometer")
        )
        return landed_again(audit_rows(lake.lake), *frames, lake.lake.settings.salt())

    assert again() == {}
    lake.put(landed("accelerometer", DATES[2], "late", phone(1, 7), phone(1, 8), phone(2, 9)))
    lake.put(landed("customer", DATES[2], "late", person(1, 9, T0)))
    lake.catch_up()
    assert again() == {audit["subject_id"]: {"customer_landing": 1, "accelerometer_landing": 2}}
