"""The checks pass on right tables and fail on what they are there to find."""

from datetime import date

import dagster as dg
import pytest

from stedi_assets.defs import asset_checks as checks
from stedi_assets.defs.io_managers import Dates
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.test_catch_up import DATES, landed, person, phone, three_days

DAY = Dates(DATES[0], DATES[0])


@pytest.fixture
def settled(lake):
    three_days(lake)
    return lake


@pytest.fixture
def manager(settled):
    from stedi_assets.definitions import io_manager

    return io_manager


def stranger(manager, name: str):
    """A row of somebody who never agreed, for the first day."""
    from pyspark.sql import functions as F

    frame = manager.read(TABLES[name]).limit(1)
    frame = frame.withColumn("ingest_date", F.lit(str(DATES[0])).cast("date"))
    column = "subject_id" if name == "machine_learning_curated" else frame.columns[0]
    column = "serialNumber" if name == "step_trainer_trusted" else column
    return frame.withColumn(column, F.lit("nobody@example.com"))


def test_no_check_of_an_error_fails_on_a_settled_lake(manager):
    errors, warnings = checks.failing_checks(manager)
    assert errors == []
    assert {name.rpartition(".")[2] for name in warnings} == {"newest_ingest_date_is_recent"}


@pytest.mark.parametrize("name", ["accelerometer_trusted", "machine_learning_curated"])
def test_rows_of_someone_who_never_agreed_are_found(manager, name):
    table = TABLES[name]
    manager.write(table, stranger(manager, name), DAY)
    outcome = checks.only_consenting_customers(manager, table, DAY)
    assert not outcome.passed
    assert outcome.counts == {"rows_of_others": 1}


@pytest.mark.slow
def test_repeated_keys_and_missing_values_are_found(manager):
    table = TABLES["accelerometer_trusted"]
    rows = manager.read(table, DAY.predicate)
    manager.write(table, rows.unionAll(rows), DAY)
    assert not checks.rows_meet_the_contract(manager, table, DAY).passed
    assert checks.rows_meet_the_contract(manager, table, Dates(DATES[1], DATES[1])).passed


@pytest.mark.slow
def test_a_backlog_and_an_object_that_is_not_in_the_ledger_are_found(settled, manager):
    table = TABLES["accelerometer_trusted"]
    manager.write(table, manager.read(table).where("false"), DAY)
    assert checks.no_backlog(manager, table, DAY).counts == {"readings_missing": 2}
    settled.put(landed("accelerometer", DATES[0], "new", phone(1, 5)))
    landing = TABLES["accelerometer_landing"]
    assert (
        checks.every_object_is_accounted_for(manager, landing, DAY).counts["objects_missing"] == 1
    )


def test_a_failing_blocking_check_leaves_the_tables_downstream_as_they_were(settled, monkeypatch):
    before = {name: settled.lake.log(name).version for name in TABLES}
    members = checks._members

    def nobody(io, table):
        found, *how = members(io, table)
        return (found.limit(0) if table.name == "accelerometer_trusted" else found, *how)

    monkeypatch.setattr(checks, "_members", nobody)
    settled.put(landed("customer", DATES[0], "new", person(3, 0, None)))
    with pytest.raises(dg.DagsterError):
        settled.materialize(DATES[0])
    settled.lake.look_again()
    after = {name: settled.lake.log(name).version for name in TABLES}
    failing = settled.lake.delta(TABLES["accelerometer_trusted"])
    failing.load_as_version(before["accelerometer_trusted"])
    assert failing.to_pyarrow_table().num_rows == 4, "the version before stays readable"
    assert after["accelerometer_trusted"] > before["accelerometer_trusted"]
    for name in ("customers_curated", "step_trainer_trusted", "machine_learning_curated"):
        assert after[name] == before[name]


def test_a_check_can_be_run_by_itself(settled):
    from stedi_assets.definitions import defs

    key = dg.AssetCheckKey(dg.AssetKey("customer_landing"), "few_records_are_malformed")
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    result = job.execute_in_process()
    assert [done.asset_check_key for done in result.get_asset_check_evaluations()] == [key]


def test_the_pairs_of_a_join_on_time_alone_are_counted(lake):
    from stedi_assets.definitions import io_manager

    day = date(2022, 6, 18)
    lake.put(landed("customer", day, "c", person(1, 0, 1), person(2, 0, 1)))
    lake.put(landed("accelerometer", day, "a", phone(1, 0), phone(2, 0)))
    from stedi_assets_tests.test_catch_up import device

    lake.put(landed("step_trainer", day, "s", device(1, 0), device(2, 0)))
    lake.materialize(day)
    outcome = checks.pairs_are_of_one_person(
        io_manager, TABLES["machine_learning_curated"], Dates(day, day)
    )
    assert outcome.counts == {"pairs": 2, "pairs_of_different_people": 2}
