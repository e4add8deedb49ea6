"""What can go wrong in the middle, each survived by running again: nothing to clean by hand."""

import dataclasses
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import uuid
from datetime import date, timedelta

import pytest

from stedi_assets.errors import StediError
from stedi_assets.incremental import inputs
from stedi_assets.incremental.pipeline import InputsChangedError
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.landing.layout import landed_dates
from stedi_assets.landing.object_text import text_chunks
from stedi_assets.local import s3_server as local
from stedi_assets.local import seaweedfs
from stedi_assets.privacy.vacuum import erase_versions
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.conftest import SALT, TestLake
from stedi_assets_tests.driver import catch_up_elsewhere
from stedi_assets_tests.odd_data import DATES, plain_objects
from stedi_assets_tests.test_catch_up import DATES as DAYS
from stedi_assets_tests.test_catch_up import landed, person, phone, three_days

COMMAND = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*"]
COMMAND += ["-m", "stedi_assets.definitions", "--partition", str(DATES[0])]


def run(day: date = DATES[0]) -> "subprocess.Popen[bytes]":
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*COMMAND[:-1], str(day)], start_new_session=True, **quiet)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_a_random_moment_and_run_again(lake, seed):
    lake.put(plain_objects(seed))
    process = run()
    # A run puts some thirty objects: it dies now here, now there.
    moment = len(lake.objects) + random.Random(seed).randrange(1, 25)
    while len(list(lake.lake.objects(""))) < moment:
        assert process.poll() is None, "it ended before"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
@pytest.mark.parametrize("days", [(DATES[0], DATES[0]), (DATES[0], DATES[1])])
def test_two_runs_over_the_same_and_over_neighbouring_dates_at_once(lake, days):
    for seed, day in enumerate(DATES[:2]):
        lake.put(plain_objects(seed, day))
    for _ in range(2):  # the first time the tables are made, the second time rewritten
        processes = [run(day) for day in days]
        assert [p.wait() for p in processes] == [0, 0]
    lake.catch_up()
    assert lake.differences() == {}


def test_a_landing_run_that_another_overtook_writes_nothing(lake):
    """An older listing's rows are not put over a newer one's."""
    table, day = TABLES["customer_landing"], DAYS[0]
    lake.put(landed("customer", day, "one", person(1, 0, 1)))
    older = lake.pipeline.compute(table, records=lake.pipeline.read_landing(table, [day]))
    lake.put(landed("customer", day, "two", person(2, 0, 1)))
    newer = lake.pipeline.compute(table, records=lake.pipeline.read_landing(table, [day]))
    lake.pipeline.write(table, [day], newer)
    with pytest.raises(InputsChangedError, match="Another run wrote customer_landing"):
        lake.pipeline.write(table, [day], older)
    lake.catch_up()
    assert lake.differences() == {}


def test_a_write_whose_inputs_changed_meanwhile_is_refused_before_it_commits(lake):
    three_days(lake)
    table, pipeline = TABLES["accelerometer_trusted"], lake.pipeline
    before = pipeline.lakehouse.log(table)
    batch = pipeline.read_and_compute(table, [DAYS[0]])
    lake.put(landed("customer", DAYS[2], "withdrawn", person(1, 1, None)))
    lake.materialize(DAYS[2], DAYS[2], "customer_landing", "customer_trusted")
    with pytest.raises(InputsChangedError, match="run it again"):
        pipeline.write(table, [DAYS[0]], batch)
    assert pipeline.lakehouse.log(table) == before
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
@pytest.mark.parametrize("table", list(TABLES))
def test_killed_before_and_then_after_a_tables_commit_loses_nothing(lake, table):
    three_days(lake)
    command = [part.replace("assets.definitions", "assets_tests.killed") for part in COMMAND]
    for when, consent in (("before", None), ("after", 1)):
        lake.put(landed("customer", DAYS[0], "c", person(1, 9, consent), person(2, 0, 1)))
        lake.put(landed("accelerometer", DAYS[0], f"late {when}", phone(2, 2000)))
        environ = os.environ | {"KILLED": f"{table} {when}"}
        done = subprocess.run(command, env=environ, capture_output=True)
        assert done.returncode == -signal.SIGKILL
    lake.catch_up()
    assert lake.differences() == {}


@pytest.fixture
def own_server(tmp_path, monkeypatch):
    """A lake on a server of the test's own, that may be stopped or starved."""
    with local.local_s3(tmp_path / "s3") as server:
        environ = local.local_environment(server, os.environ, SALT)
        environ["STEDI_LAKE"] = f"s3://{server.bucket}/{uuid.uuid4().hex}"
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield server


def said_by(process: "subprocess.CompletedProcess[str]") -> str:
    return process.stdout + process.stderr


@pytest.mark.parametrize(
    ("what", "ask"),
    [
        ("telling the time", lambda lake: lake.now()),
        ("reading \\S+json", lambda lake: lake.get("_stedi/ledger/customer_landing.json")),
        ("reading a/b", lambda lake: list(text_chunks(lake, "a/b"))),
        (
            "listing \\S+/landing/customer/",
            lambda lake: landed_dates(lake.client, lake.settings.bucket, lake.settings.prefix),
        ),
        ("erasing older versions", lambda lake: erase_versions(lake, "a/", timedelta(0))),
        ("locking a_table", lambda lake: write_lock(lake, "a_table").__enter__()),
    ],
)
def test_whatever_s3_refuses_is_told_in_one_line(lake, server, what, ask):
    wrong = {"access_key": server.access_key, "secret_key": "another"}
    refused = ObjectStore(dataclasses.replace(lake.settings, **wrong))
    with pytest.raises(StediError, match=f"^S3 at http\\S+ failed at {what}.*again\\.$"):
        ask(refused)


@pytest.mark.slow
def test_a_full_disk_on_the_server_fails_the_run_in_one_line_and_room_mends_it(own_server):
    """No file of the server may grow any more: for it the same as a disk without room."""
    lake = TestLake()
    lake.put(plain_objects())
    lake.lake.check()
    before = resource.prlimit(own_server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(own_server.pid, resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        full = subprocess.run(COMMAND, capture_output=True, text=True)
    finally:  # without room the server does not end when it is asked to
        resource.prlimit(own_server.pid, resource.RLIMIT_FSIZE, before)
    assert full.returncode == 1
    told = (
        r"StediError: (S3 at http\S+ failed at (writing|locking)|\w+ was not (created|written)).+"
    )
    assert re.search(told, said_by(full))
    assert subprocess.run(COMMAND, capture_output=True).returncode == 0
    catch_up_elsewhere()
    assert lake.differences() == {}


@pytest.mark.slow
def test_a_server_that_stops_and_starts_during_a_run_loses_nothing(own_server, tmp_path):
    lake = TestLake()
    lake.put(plain_objects())
    process = run()
    while not list(lake.lake.objects("_stedi/ledger/")) and process.poll() is None:
        time.sleep(0.05)
    ports = seaweedfs.ports_of(tmp_path / "s3", own_server.pid)
    os.kill(own_server.pid, signal.SIGTERM)
    os.waitpid(own_server.pid, 0)
    local._start(tmp_path / "s3", ports)
    assert process.wait() in (0, 1)
    catch_up_elsewhere()
    assert lake.differences() == {}


@pytest.mark.slow
def test_objects_deleted_while_they_are_read(lake, monkeypatch):
    lake.put(plain_objects())
    (key,) = (k for k in lake.objects if "/accelerometer/" in k)
    read = inputs.read_landed

    def read_after_a_deletion(*arguments):
        if key in lake.objects:
            lake.remove(key)
        return read(*arguments)

    monkeypatch.setattr(inputs, "read_landed", read_after_a_deletion)
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
def test_the_machines_time_zone_does_not_matter(lake):
    lake.put(plain_objects())
    done = subprocess.run(COMMAND, env={**os.environ, "TZ": "Pacific/Kiritimati"}, check=False)
    assert done.returncode == 0
    assert lake.differences() == {}
