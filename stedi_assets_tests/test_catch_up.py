"""Whatever lands, in any order, `catch_up` ends in the reference's tables, by the fewest runs."""

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from boto3.s3.transfer import TransferConfig
from click.testing import CliRunner
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType

from stedi_assets.cli.main import main
from stedi_assets.defs import jobs, materialize
from stedi_assets.defs.jobs import materializations, run_here
from stedi_assets.errors import StediError
from stedi_assets.incremental.attempts import ATTEMPTS_FOLDER
from stedi_assets.incremental.membership import MEMBERSHIP_PATH
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.planner import PlannedRun
from stedi_assets.incremental.reconcile import build_out_of_date, catch_up, find_out_of_date
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.scratch import scratch_folder
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests import seams
from stedi_assets_tests.conftest import TestLake
from stedi_assets_tests.odd_data import T0, compact, customer, odd_objects

DATES = [date(2022, 6, 18), date(2022, 6, 19), date(2022, 6, 20)]


def files_by_date(lake, table: str) -> dict[date, set[str]]:
    found: dict[date, set[str]] = {}
    for file in lake.pipeline.lakehouse.log(TABLES[table]).files:
        found.setdefault(file.ingest_date, set()).add(file.path)
    return found


def rewritten(before: dict[date, set[str]], after: dict[date, set[str]]) -> set[date]:
    return {day for day in before | after if before.get(day) != after.get(day)}


def person(number: int, updated: int, share: int | None, device: str | None = None) -> str:
    rng = random.Random(0)
    record = customer(rng, number, updated)
    record |= {"email": f"p{number}@example.com", "serialNumber": device or f"d{number}"}
    return compact(record | {"shareWithResearchAsOfDate": share})


def phone(number: int, moment: int) -> str:
    email = f"p{number}@example.com"
    return compact({"user": email, "timestamp": T0 + moment, "x": 1.0, "y": 2.0, "z": 3.0})


def device(number: int, moment: int) -> str:
    return compact(
        {"sensorReadingTime": T0 + moment, "serialNumber": f"d{number}", "distanceFromObject": 7}
    )


def landed(entity: str, day: date, name: str, *lines: str) -> dict[str, bytes]:
    return {f"landing/{entity}/ingest_date={day}/{name}": "\n".join(lines).encode()}


def three_days(lake) -> None:
    """Person 1 has readings on days 0 and 1 (a pair on day 1 only), person 2 on days 0 and 2."""
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0), person(2, 0, T0)))
    lake.put(landed("accelerometer", DATES[0], "a", phone(1, 0), phone(2, 1)))
    lake.put(landed("step_trainer", DATES[0], "s", device(2, 1)))
    lake.put(landed("accelerometer", DATES[1], "a", phone(1, 1000)))
    lake.put(landed("step_trainer", DATES[1], "s", device(1, 1000)))
    lake.put(landed("accelerometer", DATES[2], "a", phone(2, 2000)))
    lake.put(landed("step_trainer", DATES[2], "s", device(2, 2000)))
    lake.catch_up()


@pytest.mark.slow
def test_odd_data_landed_at_once(lake):
    lake.put(odd_objects(5))
    lake.catch_up()
    assert lake.differences() == {}


def test_a_range_that_was_typed_the_wrong_way_round_is_refused(lake):
    with pytest.raises(StediError, match=r"^The range \S+ holds no ingest date"):
        lake.materialize(DATES[1], DATES[0])


def test_a_lake_that_is_up_to_date_needs_no_run(lake):
    three_days(lake)
    assert lake.differences() == {}
    assert lake.catch_up() == 0


def test_a_new_date_has_the_data_files_of_the_others_listed_once(lake, monkeypatch):
    """However long the history is: a listing of all of a table is longer each day."""
    three_days(lake)
    new = DATES[2] + timedelta(1)
    lake.put(landed("customer", new, "c", person(3, 3, T0)))
    lake.put(landed("accelerometer", new, "a", phone(3, 4000), phone(1, 4000)))
    lake.put(landed("step_trainer", new, "s", device(3, 4000), device(1, 4000)))
    listed, list_objects = Counter[str](), ObjectStore.objects

    def counted(self, path, **arguments):
        for found in list_objects(self, path, **arguments):
            listed[found["Key"]] += 1
            yield found

    monkeypatch.setattr(ObjectStore, "objects", counted)
    assert lake.catch_up() == 1
    # (A roll-up of customers takes in the date that was the newest so far, so that is read.)
    tables = [table for name, table in TABLES.items() if name != "customer_landing"]
    others = [f"{table.path}/ingest_date={day}/" for table in tables for day in DATES]
    times = {key: n for key, n in listed.items() if key.startswith(tuple(others))}
    assert set(times.values()) == {1}, times
    assert lake.differences() == {}


def test_stedi_materialize_goes_on_with_what_its_own_runs_made_out_of_date(lake, monkeypatch):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    ranges: list[tuple[date, date]] = []

    def materialize_here(first: date, last: date) -> None:
        ranges.append((first, last))
        lake.materialize(first, last)

    monkeypatch.setattr(materialize, "_materialize", materialize_here)
    materialize.materialize_landed(lake.pipeline, print)
    assert ranges == [(DATES[2], DATES[2]), (DATES[0], DATES[1])]
    assert lake.differences() == {}
    assert lake.catch_up() == 0


def test_stedi_materialize_takes_new_dates_in_before_a_bad_one_past_landing(lake, monkeypatch):
    three_days(lake)
    of_bad_date = f"{TABLES['accelerometer_trusted'].path}/ingest_date={DATES[0]}"
    lake.lake.delete([found["Key"] for found in lake.lake.objects(of_bad_date)])
    new = DATES[2] + timedelta(1)
    lake.put(landed("accelerometer", new, "a", phone(2, 3000)))
    failing_materialize(lake, monkeypatch, DATES[0])
    with pytest.raises(StediError):
        materialize.materialize_landed(lake.pipeline, print)
    assert lake.pipeline.lakehouse.log(TABLES["accelerometer_trusted"]).of(new)


def failing_materialize(lake, monkeypatch, bad: date) -> list[date]:
    """`stedi materialize` with ranges run here, of which one from a date fails; their starts."""
    starts: list[date] = []

    def materialize_here(first: date, last: date) -> None:
        starts.append(first)
        if first == bad:
            raise StediError(f"The run over {first} failed.")
        lake.materialize(first, last)

    monkeypatch.setattr(materialize, "_materialize", materialize_here)
    return starts


def test_stedi_materialize_goes_on_after_a_range_that_failed_and_names_it_at_the_end(
    lake, monkeypatch
):
    three_days(lake)
    new = [DATES[2] + timedelta(n) for n in (1, 3)]
    for day in new:
        lake.put(landed("accelerometer", day, "a", phone(2, 3000)))
    starts = failing_materialize(lake, monkeypatch, new[0])
    with pytest.raises(StediError, match=f"^The run over {new[0]} failed.$"):
        materialize.materialize_landed(lake.pipeline, print)
    assert starts == new
    assert lake.pipeline.lakehouse.log(TABLES["accelerometer_trusted"]).of(new[1])


def test_while_a_run_of_stedi_materialize_is_under_way_the_command_itself_keeps_no_rows(
    lake, monkeypatch
):
    three_days(lake)
    lake.put(landed("accelerometer", DATES[2], "late", phone(2, 3000)))
    lake.lake.delete([MEMBERSHIP_PATH])  # so that the command computes it
    kept: list[Path] = []

    def materialize_here(first: date, last: date) -> None:
        kept.extend(scratch_folder().rglob("*.parquet"))
        lake.materialize(first, last)

    monkeypatch.setattr(materialize, "_materialize", materialize_here)
    materialize.materialize_landed(TestLake().pipeline, print)
    assert kept == []
    assert lake.differences() == {}


def test_a_withdrawal_rewrites_exactly_the_partitions_that_hold_the_person(lake):
    three_days(lake)
    tables = ("accelerometer_trusted", "step_trainer_trusted", "machine_learning_curated")
    before = {name: files_by_date(lake, name) for name in tables}
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    assert lake.differences() == {}
    old = {name: rewritten(before[name], files_by_date(lake, name)) - {DATES[2]} for name in tables}
    assert old == {
        "accelerometer_trusted": {DATES[0], DATES[1]},
        "step_trainer_trusted": {DATES[1]},
        # It is made of both: what changed of one changes it.
        "machine_learning_curated": {DATES[0], DATES[1]},
    }


def test_a_partition_that_is_built_again_says_why_and_how_many_people_and_rows_it_had(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    built = build_out_of_date(lake.pipeline).built
    events = [event for table in built for event in materializations(lake.pipeline, table)]
    (shown,) = (
        event.metadata
        for event in events
        if event.asset_key == dg.AssetKey("accelerometer_trusted")
        and event.partition == str(DATES[0])
    )
    names = ("why", "people_before", "people", "rows_before", "dagster/partition_row_count")
    assert [shown[name].value for name in names] == ["changed: members", 2, 1, 2, 1]


@pytest.mark.parametrize("table", ["accelerometer_landing", "machine_learning_curated"])
def test_a_new_date_on_which_the_process_dies_keeps_nobody_who_withdrew(lake, monkeypatch, table):
    """A device whose clock stands still makes pairs for hours, or more than memory holds."""
    three_days(lake)
    new = DATES[2] + timedelta(1)
    lake.put(landed("customer", new, "withdrawn", person(1, 1, None)))
    lake.put(landed("accelerometer", new, "a", phone(2, 3000)))
    lake.put(landed("step_trainer", new, "s", device(2, 3000)))
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "write", seams.dying_write(Pipeline.write, table, new))
        with pytest.raises(seams.Killed):
            build_out_of_date(lake.pipeline)
    for name, rows in lake.expected().items():
        assert "landing" in name or not lake.table(name) - rows, name
    lake.catch_up()
    assert lake.differences() == {}


def put_late_objects(lake, day: date) -> None:
    """Readings of person 2, a pair, on a date of `three_days`."""
    lake.put(landed("accelerometer", day, "late", phone(2, 2001)))
    lake.put(landed("step_trainer", day, "late", device(2, 2001)))


def catch_up_commands(lake, count: int, with_runs_of_dates: bool = True) -> None:
    """So many `stedi catch-up`; in a run that fails the process dies."""
    with dg.DagsterInstance.ephemeral() as instance:
        really = run_here(lake.defs, instance)

        def run(planned: PlannedRun) -> None:
            try:
                really(planned)
            except StediError:
                raise seams.Killed from None

        for _ in range(count):
            with suppress(seams.Killed):
                catch_up(lake.pipeline, run, lambda _line: None, with_runs_of_dates)


LATE, OTHER, NEW = DATES[1], DATES[2] + timedelta(1), DATES[2] + timedelta(3)


def land_all_kinds_of_changes(lake) -> None:
    """Person 1 withdraws, person 5 consents (their partition was empty), late, deleted, new."""
    three_days(lake)
    lake.put(landed("accelerometer", OTHER, "a", phone(5, 2500)))
    lake.put(landed("accelerometer", DATES[0], "b", phone(2, 600)))
    lake.catch_up()
    lake.put(landed("customer", DATES[1], "w", person(1, 1, None)))
    lake.put(landed("customer", DATES[2], "g", person(5, 1, T0)))
    for day, moment in [(LATE, 1002), (DATES[2], 2001), (NEW, 3000), (NEW + timedelta(1), 4000)]:
        lake.put(landed("accelerometer", day, "more", phone(2, moment)))
        lake.put(landed("step_trainer", day, "more", device(2, moment)))
    lake.put(landed("step_trainer", OTHER, "more", device(5, 2500)))  # of a date that was built
    lake.remove(f"landing/accelerometer/ingest_date={DATES[0]}/b")


@pytest.mark.parametrize(
    ("table", "day", "with_runs_of_dates"),
    [
        ("accelerometer_landing", LATE, True),
        ("accelerometer_landing", NEW, False),
        ("accelerometer_landing", NEW, True),
        ("accelerometer_trusted", LATE, False),
        ("step_trainer_trusted", LATE, False),
        ("machine_learning_curated", LATE, False),
        ("machine_learning_curated", NEW, True),
        ("step_trainer_landing", OTHER, False),
        ("customer_landing", DATES[2], False),
    ],
)
def test_a_partition_on_which_the_process_dies_each_time_holds_up_no_other(
    lake, monkeypatch, table, day, with_runs_of_dates
):
    """A device whose clock stands still makes pairs for hours, or more than memory holds."""
    land_all_kinds_of_changes(lake)
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "write", seams.dying_write(Pipeline.write, table, day))
        catch_up_commands(lake, 6, with_runs_of_dates)
    stale, _ = find_out_of_date(lake.pipeline)
    assert {name: set(reasons) for name, reasons in stale.items()} == {table: {day}}
    for name, rows in lake.expected().items():  # nobody who withdrew, in that partition neither
        assert "landing" in name or not lake.table(name) - rows, name
    lake.catch_up()
    assert lake.differences() == {}
    assert not list(lake.lake.objects(ATTEMPTS_FOLDER))


def unfinished(lake, monkeypatch, table: str, day: date, number: int = 2) -> None:
    """A person's late objects of a date land, and the process dies in a table each time."""
    lake.put(landed("accelerometer", day, "late", phone(number, 7001)))
    lake.put(landed("step_trainer", day, "late", device(number, 7001)))
    monkeypatch.setattr(Pipeline, "write", seams.dying_write(Pipeline.write, table, day))
    catch_up_commands(lake, 2, with_runs_of_dates=False)


@pytest.mark.parametrize("table", ["accelerometer_trusted", "machine_learning_curated"])
def test_who_withdrew_leaves_an_unfinished_partition_with_a_file_that_was_written_over(
    lake, monkeypatch, table
):
    three_days(lake)
    unfinished(lake, monkeypatch, table, DATES[1])
    (file,) = lake.pipeline.lakehouse.log(TABLES[table]).of(DATES[1])
    path = f"{TABLES[table].path}/{file.path}"
    data, _ = lake.lake.get(path)
    with tempfile.NamedTemporaryFile() as local:  # in parts: the same bytes, another etag
        local.write(data)
        local.flush()
        lake.lake.client.upload_file(
            local.name,
            lake.settings.bucket,
            lake.settings.key(path),
            Config=TransferConfig(multipart_threshold=1),
        )
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    build_out_of_date(lake.pipeline, without_new_dates=True)
    for name, rows in lake.expected().items():
        assert "landing" in name or not lake.table(name) - rows, name


def test_who_withdrew_leaves_unfinished_partitions_that_are_too_much_together(lake, monkeypatch):
    three_days(lake)
    write = Pipeline.write

    def dies_of_many(self, table, days, *more):
        if table.name == "accelerometer_trusted" and len(days) > 1:
            raise seams.Killed
        return write(self, table, days, *more)

    monkeypatch.setattr(Pipeline, "write", dies_of_many)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    with pytest.raises(seams.Killed):
        build_out_of_date(lake.pipeline)
    assert build_out_of_date(lake.pipeline, without_new_dates=True).failures == []
    for name, rows in lake.expected().items():
        assert "landing" in name or not lake.table(name) - rows, name
    result = build_out_of_date(lake.pipeline)  # emptied, and built by the same run
    assert (result.failures, result.warnings) == ([], [])
    assert lake.differences() == {}


@pytest.mark.parametrize("name", ["customer_trusted", "customers_curated"])
def test_who_withdrew_leaves_a_table_without_dates_that_cannot_be_built(lake, monkeypatch, name):
    three_days(lake)
    write = lake.pipeline.write

    def failing(table, *arguments):
        if table.name == name:
            raise StediError(f"{name} cannot be written")
        return write(table, *arguments)

    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    with monkeypatch.context() as patch:
        patch.setattr(lake.pipeline, "write", failing)
        assert build_out_of_date(lake.pipeline).failures
        for one, rows in lake.expected().items():
            assert "landing" in one or not lake.table(one) - rows, one
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.parametrize("moves", [False, True])
def test_pairs_of_a_device_that_another_claims_leave_an_unfinished_partition(
    lake, monkeypatch, moves
):
    three_days(lake)
    unfinished(lake, monkeypatch, "machine_learning_curated", DATES[1], number=1)
    if moves:  # whose pairs they were has another device now
        lake.put(landed("customer", DATES[2], "moves", person(1, 1, T0, device="d77")))
    lake.put(landed("customer", DATES[2], "claim", person(3, 0, None, device="d1")))
    build_out_of_date(lake.pipeline, without_new_dates=True)
    for name, rows in lake.expected().items():
        assert "landing" in name or not lake.table(name) - rows, name


def test_pairs_of_a_device_that_another_claims_leave_while_a_table_of_people_is_unfinished(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "claim", person(3, 0, None, device="d1")))
    for _ in range(2):
        with seams.kill("commit", "customer_trusted", "before"):
            build_out_of_date(lake.pipeline)
    assert build_out_of_date(lake.pipeline, without_new_dates=True).failures == []
    assert not lake.table("machine_learning_curated") - lake.expected()["machine_learning_curated"]


@pytest.mark.parametrize(
    ("table", "lost"),
    [
        ("customer_landing", "_stedi/ledger/customer_landing.json"),
        ("customer_landing", "_stedi/"),
        ("step_trainer_landing", "_stedi/"),
    ],
)
def test_a_landing_date_that_cannot_be_built_and_has_no_entry_holds_up_no_other(
    lake, monkeypatch, table, lost
):
    three_days(lake)
    bad = DATES[2] if table == "customer_landing" else DATES[0]
    lake.put(landed("customer", bad, "more", person(2, 0, T0)))
    lake.catch_up()
    lake.lake.delete_below(lost)
    lake.pipeline.refresh()
    put_late_objects(lake, DATES[1])
    write = lake.pipeline.write

    def failing(written, days, *more):
        if written.name == table and bad in (days or ()):
            raise StediError("a bad object")
        return write(written, days, *more)

    monkeypatch.setattr(lake.pipeline, "write", failing)
    for _ in range(2):
        result = build_out_of_date(lake.pipeline)
        assert ["bad object" in line for line in result.failures] == [True]
        assert result.warnings == []
        assert lake.differences() == {}


@pytest.mark.parametrize("without_new_dates", [False, True])
def test_one_failure_in_a_table_of_people_empties_nothing(lake, monkeypatch, without_new_dates):
    three_days(lake)
    lake.lake.delete(["_stedi/ledger/machine_learning_curated.json"])
    lake.put(landed("customer", DATES[2], "more", person(1, 1, T0)))
    write, failed = lake.pipeline.write, []

    def fails_once(table, *arguments):
        if table.name == "customer_trusted" and not failed:
            failed.append(table)
            raise StediError("S3 answers 503")
        return write(table, *arguments)

    monkeypatch.setattr(lake.pipeline, "write", fails_once)
    result = build_out_of_date(lake.pipeline, without_new_dates=without_new_dates)
    assert (result.failures, result.warnings) == ([], [])
    assert lake.differences() == {}


def test_who_withdrew_leaves_a_table_that_only_others_can_read_and_that_cannot_be_built(
    lake, monkeypatch
):
    three_days(lake)
    trusted = TABLES["accelerometer_trusted"]
    uri = lake.settings.uri(trusted.path)
    of_others = DeltaTable(uri, storage_options=lake.lake.storage_options)
    of_others.alter.add_columns(Field("more", PrimitiveType("string")))
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    write = lake.pipeline.write

    def failing(table, *arguments):
        if table.name == trusted.name:
            raise StediError("cannot be written")
        return write(table, *arguments)

    monkeypatch.setattr(lake.pipeline, "write", failing)
    assert build_out_of_date(lake.pipeline).failures
    assert not lake.table(trusted.name) - lake.expected()[trusted.name]


@pytest.mark.parametrize("died", [1, 2, 3])
@pytest.mark.parametrize("people", ["customer_trusted", "customers_curated"])
@pytest.mark.parametrize("consent_scope", ["customer", "reading"])
def test_nothing_is_built_with_a_table_of_people_that_is_unfinished(
    new_lake, consent_scope, people, died
):
    """Who consents again later: earlier readings do not count. Who takes another device."""
    lake = new_lake(consent_scope=consent_scope)
    three_days(lake)
    again = person(1, 1, T0 + 999_999), person(2, 1, T0, device="d1")
    lake.put(landed("customer", DATES[2], "again", *again))
    for _ in range(died):
        with seams.kill("commit", people, "before") as killed:
            build_out_of_date(lake.pipeline)
        assert killed
    result = build_out_of_date(lake.pipeline, without_new_dates=True)
    assert (result.failures, bool(result.warnings)) == ([], died > 1)
    for name, rows in lake.expected().items():
        assert "landing" in name or not lake.table(name) - rows, name
    lake.catch_up()
    assert lake.differences() == {}


def test_who_withdrew_leaves_unfinished_partitions_one_of_which_nobody_can_read(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    with seams.kill("commit", "accelerometer_trusted", "before"):
        build_out_of_date(lake.pipeline)
    (file,) = lake.pipeline.lakehouse.log(TABLES["accelerometer_trusted"]).of(DATES[0])
    lake.lake.put(f"{TABLES['accelerometer_trusted'].path}/{file.path}", b"x" * file.bytes)
    lake.lake.delete(["_stedi/ledger/accelerometer_trusted.json"])
    assert build_out_of_date(lake.pipeline, without_new_dates=True).failures == []
    for name, rows in lake.expected().items():
        assert "landing" in name or not lake.table(name) - rows, name


@pytest.mark.parametrize("consent_scope", ["customer", "reading"])
def test_where_the_same_people_are_in_an_unfinished_partition_keeps_its_rows(
    new_lake, monkeypatch, consent_scope
):
    lake = new_lake(consent_scope=consent_scope)
    three_days(lake)
    before = {name: lake.table(name) for name in TABLES if "landing" not in name}
    for table in ("accelerometer_trusted", "step_trainer_trusted", "machine_learning_curated"):
        with monkeypatch.context() as patch:
            unfinished(lake, patch, table, DATES[1], number=1)
            lake.put(landed("customer", DATES[2], "more", person(4, 1, T0)))
            catch_up_commands(lake, 1, with_runs_of_dates=False)
        assert not before[table] - lake.table(table)


def test_nothing_is_tried_last_that_was_built_before_the_process_died(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    with seams.kill("entry", "accelerometer_trusted", "after") as died:
        build_out_of_date(lake.pipeline)
    assert died
    lake.catch_up()
    assert lake.differences() == {}
    assert not list(lake.lake.objects(ATTEMPTS_FOLDER))


def test_attempts_that_nobody_can_read_cost_nothing_but_the_order(lake):
    three_days(lake)
    for name, text in [
        ("accelerometer_landing", b"{"),
        ("none", b"{}"),
        ("customer_landing", b"[]"),
    ]:
        lake.lake.put(f"{ATTEMPTS_FOLDER}{name}.json", text)
    lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    assert lake.differences() == {}


def test_the_job_maintenance_takes_out_who_withdrew_also_where_a_run_was_interrupted(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    with seams.kill("commit", "machine_learning_curated", "before") as died:
        build_out_of_date(lake.pipeline)
    assert died
    with dg.DagsterInstance.ephemeral() as instance:
        job = lake.defs.resolve_job_def("maintenance")
        assert job.execute_in_process(instance=instance).success
    assert lake.differences() == {}


def test_a_failed_check_of_who_left_is_told_though_all_is_built(lake, monkeypatch):
    three_days(lake)
    new = DATES[2] + timedelta(1)
    lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    lake.put(landed("accelerometer", new, "a", phone(2, 3000)))
    report = jobs.report_checks

    def failing(*arguments: object) -> list[str]:
        return [*report(*arguments), "Check only_consenting_customers of customer_trusted failed."]

    monkeypatch.setattr(jobs, "report_checks", failing)
    assert runs_where(lake, lambda _planned: None) == [
        f"all tables for {new}",
        "the job catch_up",
        "StediError",
    ]


def test_each_event_of_a_partition_that_a_run_builds_twice_says_what_was_then(lake):
    """A withdrawal, and late objects of the same date on which a process died."""
    three_days(lake)
    lake.put(landed("accelerometer", DATES[0], "late", phone(3, 2)))
    with seams.kill("commit", "accelerometer_landing", "before") as died:
        build_out_of_date(lake.pipeline)
    assert died
    lake.put(landed("customer", DATES[0], "w", person(1, 1, None), person(3, 0, T0)))
    built = [
        event
        for table in build_out_of_date(lake.pipeline).built
        for event in materializations(lake.pipeline, table)
        if event.asset_key == dg.AssetKey("accelerometer_trusted")
        and event.partition == str(DATES[0])
    ]
    names = ("people_before", "people", "rows_before", "dagster/partition_row_count")
    shown = [[event.metadata[name].value for name in names] for event in built]
    assert shown == [[2, 1, 2, 1], [1, 2, 1, 2]]
    assert len({event.tags["dagster/data_version"] for event in built}) == 2


@pytest.mark.parametrize("recorded", [False, True])
def test_new_dates_are_runs_of_their_own_only_where_runs_are_recorded(lake, request, recorded):
    if recorded:
        request.getfixturevalue("dagster_home")
    lake.put(landed("accelerometer", DATES[0], "a", phone(2, 3000)))
    result = CliRunner().invoke(main, ["catch-up"])
    assert result.exit_code == 0
    ran = f"all tables for {DATES[0]}" if recorded else "the job catch_up"
    assert result.stderr.splitlines()[:1] == [f"Running {ran} …"]


def runs_where(
    lake, before: Callable[[PlannedRun], None], with_runs_of_dates: bool = True
) -> list[str]:
    """Catch up, with something that happens before each run; the runs, each in words."""
    runs: list[str] = []
    with dg.DagsterInstance.ephemeral() as instance:
        really = run_here(lake.defs, instance)

        def run(planned: PlannedRun) -> None:
            runs.append(str(planned))
            before(planned)
            really(planned)

        try:
            catch_up(lake.pipeline, run, lambda _line: None, with_runs_of_dates)
        except (StediError, seams.Killed) as error:
            runs.append(type(error).__name__)
    return runs


@pytest.mark.parametrize("landing", [[], ["accelerometer"], ["step_trainer"]])
def test_the_job_catch_up_builds_a_lake_where_readings_are_missing(lake, landing):
    lines = {"accelerometer": phone(1, 0), "step_trainer": device(1, 0)}
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0)))
    for entity in landing:
        lake.put(landed(entity, DATES[0], "r", lines[entity]))
    assert runs_where(lake, lambda _planned: None, False) == ["the job catch_up"]
    assert lake.differences() == {}


def test_a_lost_table_of_which_nothing_is_wanted_fails_no_check(lake):
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0), person(2, 0, T0)))
    lake.put(landed("accelerometer", DATES[0], "a", phone(1, 0), phone(2, 1)))
    lake.materialize(DATES[0])
    path = TABLES["step_trainer_trusted"].path
    lake.lake.delete([found["Key"] for found in lake.lake.objects(f"{path}/")])
    lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    assert lake.differences() == {}


def test_new_dates_that_keep_landing_keep_nobody_who_withdrew(lake, monkeypatch):
    three_days(lake)
    lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    new = [DATES[2] + timedelta(n) for n in range(1, 9)]
    lake.put(landed("accelerometer", new[0], "a", phone(2, 3000)))

    def another_lands(_planned: PlannedRun) -> None:
        in_tables = {row[0] for row in lake.table("accelerometer_trusted")}
        if len(runs) < 3 and "p1@example.com" in in_tables:
            runs.append("")
            lake.put(landed("accelerometer", new[len(runs)], "a", phone(2, 3000 + len(runs))))

    runs: list[str] = []
    done = runs_where(lake, another_lands)
    assert done[:2] == [
        f"all tables for {new[0]}",
        "the job catch_up (without new dates)",
    ]
    assert lake.differences() == {}


def test_dates_on_which_the_process_dies_each_time_hold_up_none_of_their_range(lake, monkeypatch):
    dates = [DATES[0] + timedelta(n) for n in range(5)]
    for day in dates:
        lake.put(landed("accelerometer", day, "a", phone(2, 3000)))
    write, bad = Pipeline.write, {dates[0], dates[3]}
    for day in bad:
        write = seams.dying_write(write, "accelerometer_landing", day)
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "write", write)
        catch_up_commands(lake, 7)
    assert set(lake.pipeline.lakehouse.log(TABLES["accelerometer_landing"]).by_date) == {
        *dates
    }.difference(bad)
    lake.catch_up()
    assert lake.differences() == {}


def test_a_range_that_was_interrupted_is_built_in_halves_not_date_by_date(lake, monkeypatch):
    dates = [DATES[0] + timedelta(n) for n in range(5)]
    for day in dates:
        lake.put(landed("accelerometer", day, "a", phone(2, 3000)))
    with monkeypatch.context() as patch:
        write = seams.dying_write(Pipeline.write, "accelerometer_landing", dates[0])
        patch.setattr(Pipeline, "write", write)
        catch_up_commands(lake, 1)
    built = build_out_of_date(lake.pipeline).built
    halves = [set(table.reasons) for table in built if table.table.name == "accelerometer_landing"]
    assert halves == [set(dates[:3]), set(dates[3:])]
    assert lake.differences() == {}


@pytest.mark.parametrize("recorded", [False, True])
def test_what_failed_is_tried_again_where_something_else_landed_meanwhile(lake, recorded):
    three_days(lake)
    lake.put(landed("customer", DATES[0], "more", person(3, 0, T0)))
    new, write = DATES[2] + timedelta(1), lake.pipeline.write

    def fails_while_more_lands(table, days, *more):
        if table.name == "customer_landing" and DATES[0] in (days or ()):
            lake.put(landed("customer", new, "withdrawn", person(1, 1, None)))
            lake.put(landed("accelerometer", new, "a", phone(2, 3000)))
            raise StediError("customer_landing cannot be written")
        return write(table, days, *more)

    def only_at_first(planned: PlannedRun) -> None:
        lake.pipeline.write = write if runs else fails_while_more_lands
        runs.append(str(planned))

    runs: list[str] = []
    dated = [f"all tables for {new}"] if recorded else []
    done = runs_where(lake, only_at_first, recorded)
    assert done == ["the job catch_up", *dated, "the job catch_up"]
    assert lake.differences() == {}


def test_a_run_for_people_that_failed_once_is_no_failure_where_all_is_done_in_the_end(lake):
    three_days(lake)
    new, write = [DATES[2] + timedelta(n) for n in (1, 2)], lake.pipeline.write
    lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    lake.put(landed("accelerometer", new[0], "a", phone(2, 3000)))

    def before(planned: PlannedRun) -> None:
        failing = failing_write(write, "customer_landing", DATES[0])
        lake.pipeline.write = failing if planned.without_new_dates else write
        if planned.days == new[:1]:
            lake.put(landed("accelerometer", new[1], "a", phone(2, 4000)))

    assert runs_where(lake, before) == [
        f"all tables for {new[0]}",
        "the job catch_up (without new dates)",
        f"all tables for {new[1]}",
        "the job catch_up",
    ]
    assert lake.differences() == {}


@pytest.mark.slow
def test_withdrawn_and_granted_again_brings_the_rows_back(lake):
    three_days(lake)
    rows = lake.table("machine_learning_curated")
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    assert lake.table("machine_learning_curated") != rows
    lake.put(landed("customer", DATES[2], "granted", person(1, 2, T0)))
    lake.catch_up()
    assert lake.differences() == {}
    assert lake.table("machine_learning_curated") == rows


@pytest.mark.slow
def test_granted_again_before_a_catch_up_brings_the_rows_back(lake):
    three_days(lake)
    rows = lake.table("machine_learning_curated")
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.materialize(DATES[0], DATES[2])
    assert lake.table("machine_learning_curated") != rows
    lake.put(landed("customer", DATES[2], "granted", person(1, 2, T0)))
    for _ in range(2):  # more than one write lies between what was lake_up_to_date and now
        lake.materialize(DATES[2])
    lake.catch_up()
    assert lake.differences() == {}
    assert lake.table("machine_learning_curated") == rows


def test_a_device_claimed_by_a_person_without_consent_is_nobodys(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "claim", person(3, 0, None, device="d1")))
    lake.catch_up()
    assert lake.differences() == {}
    assert not any(row[1] == "d1" for row in lake.table("step_trainer_trusted"))


@pytest.mark.slow
def test_a_reading_that_lands_late_in_an_old_date_moves_its_repeat(lake):
    three_days(lake)
    lake.put(landed("accelerometer", DATES[0], "late", phone(1, 1000)))
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
def test_a_deleted_object_gives_its_repeat_back_to_the_later_date(lake):
    three_days(lake)
    lake.put(landed("accelerometer", DATES[0], "late", phone(1, 1000)))
    lake.catch_up()
    lake.remove(f"landing/accelerometer/ingest_date={DATES[0]}/late")
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
def test_an_object_rewritten_under_its_name_is_read_again(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[0], "c", person(1, 0, None), person(2, 0, T0)))
    lake.catch_up()
    assert lake.differences() == {}


@pytest.mark.slow
def test_a_moved_consent_date_moves_readings_with_scope_reading(new_lake):
    lake = new_lake(consent_scope="reading")
    three_days(lake)
    lake.put(landed("customer", DATES[2], "later", person(1, 1, T0 + 500)))
    lake.catch_up()
    assert lake.differences() == {}
    assert any(row[0] == "p1@example.com" for row in lake.table("accelerometer_trusted"))


@pytest.mark.slow
def test_a_lost_ledger_is_made_again(lake):
    three_days(lake)
    lake.lake.delete_below("_stedi/ledger/")
    assert lake.catch_up() > 0
    assert lake.differences() == {}


@pytest.mark.slow
def test_a_date_that_fails_holds_up_no_other_and_is_named_at_the_end(lake):
    three_days(lake)
    lake.put(landed("accelerometer", DATES[2], "more", phone(2, 3000)))
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.pipeline.write = failing_write(lake.pipeline.write, "accelerometer_landing", DATES[2])
    said: list[str] = []
    with pytest.raises(StediError, match=r"1 run failed .* everything else is done"):
        lake.catch_up(say=said)
    assert not any(row[0] == "p1@example.com" for row in lake.table("accelerometer_trusted"))
    del lake.pipeline.write
    lake.catch_up()
    assert lake.differences() == {}


def failing_write(write, name: str, day: date):
    """A pipeline's write that fails where it would write a date of a table."""

    def write_or_fail(table, days, *arguments):
        if table.name == name and day in (days or ()):
            raise StediError(f"{name} cannot be written")
        return write(table, days, *arguments)

    return write_or_fail


def test_the_daily_sweep_fails_after_it_did_the_rest(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[0], "new", person(3, 0, T0)))
    lake.put(landed("accelerometer", DATES[2], "more", phone(2, 3000)))
    lake.pipeline.write = failing_write(lake.pipeline.write, "customer_landing", DATES[0])
    with dg.DagsterInstance.ephemeral() as instance:
        job = lake.defs.resolve_job_def("daily_sweep")
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    failures = [e for e in result.all_events if e.is_step_failure]
    errors = [str(e.event_specific_data.error) for e in failures]
    assert any("customer_landing cannot be written" in error for error in errors)
    assert any(row[1] == T0 + 3000 for row in lake.table("accelerometer_trusted"))


def test_catching_up_stops_at_once_where_s3_is_away(lake, monkeypatch):
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0)))
    lake.put(landed("customer", DATES[2], "c", person(2, 0, T0)))
    tried: list[object] = []

    def run(planned):
        tried.append(planned)
        monkeypatch.setattr(type(lake.lake), "now", away)
        raise StediError("it failed")

    def away(_lake):
        raise StediError("S3 is away")

    with pytest.raises(StediError, match="S3 is away"):
        catch_up(lake.pipeline, run, lambda _line: None)
    assert len(tried) == 1


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000], ids=["ms", "us", "ns"])
def test_a_reading_at_the_end_of_a_day_that_lands_again_counts_once(lake, unit):
    """Also where its clock counted in other units: a double does not hold so great a number."""
    last = T0 * unit // 86_400_000 * 86_400_000 - 1
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0)))
    lake.put(landed("accelerometer", DATES[0], "a", phone(1, last - T0)))
    lake.catch_up()
    lake.put(landed("accelerometer", DATES[1], "a", phone(1, last - T0), phone(1, 0)))
    lake.put(landed("accelerometer", DATES[2], "a", phone(1, last - T0), phone(1, -2 * T0)))
    lake.catch_up()
    assert lake.differences() == {}
