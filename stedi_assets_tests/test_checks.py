"""The checks pass on right tables and fail on what they are there to find."""

from datetime import date

import dagster as dg
import pytest
from deltalake import DeltaTable
from pyspark.errors.exceptions.connect import SparkConnectGrpcException

from stedi_assets.defs import asset_checks
from stedi_assets.defs import table_checks as checks
from stedi_assets.defs.asset_checks import evaluations
from stedi_assets.lakehouse.dates import on_days
from stedi_assets.settings import today
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.test_catch_up import DATES, device, landed, person, phone, three_days

DAY = [DATES[0]]


@pytest.fixture
def lake_up_to_date(lake):
    three_days(lake)
    return lake


@pytest.fixture
def pipeline(lake_up_to_date):
    return lake_up_to_date.pipeline


def write(pipeline, table, frame) -> None:
    """Write the first day of a table past the ledger, as nobody should."""
    pipeline.lakehouse.replace(table, frame, DAY)


def stranger(pipeline, name: str):
    """A row of somebody who never agreed, for the first day."""
    from pyspark.sql import functions as F

    frame = pipeline.lakehouse.read(TABLES[name]).limit(1)
    frame = frame.withColumn("ingest_date", F.lit(str(DATES[0])).cast("date"))
    column = "subject_id" if name == "machine_learning_curated" else frame.columns[0]
    column = "serialNumber" if name == "step_trainer_trusted" else column
    return frame.withColumn(column, F.lit("nobody@example.com"))


def test_no_check_of_an_error_fails_on_a_lake_that_is_up_to_date(pipeline):
    checked = [e for table in TABLES.values() for e in evaluations(pipeline, table, None)]
    failing = [e for e in checked if not e.passed]
    assert {e.check_name for e in failing} == {"newest_ingest_date_is_recent"}
    assert {e.severity for e in failing} == {dg.AssetCheckSeverity.WARN}


@pytest.mark.parametrize("name", ["accelerometer_trusted", "machine_learning_curated"])
def test_rows_of_someone_who_never_agreed_are_found(pipeline, name):
    table = TABLES[name]
    write(pipeline, table, stranger(pipeline, name))
    outcome = checks.only_consenting_customers(pipeline, table, DAY)
    assert not outcome.passed
    assert outcome.counts == {"rows_of_others": 1}


@pytest.mark.slow
def test_repeated_keys_and_missing_values_are_found(pipeline):
    table = TABLES["accelerometer_trusted"]
    rows = pipeline.lakehouse.read(table, on_days(DAY))
    write(pipeline, table, rows.unionAll(rows))
    assert not checks.rows_meet_the_contract(pipeline, table, DAY).passed
    assert checks.rows_meet_the_contract(pipeline, table, [DATES[1]]).passed


@pytest.mark.slow
def test_a_backlog_and_an_object_that_is_not_in_the_ledger_are_found(lake_up_to_date, pipeline):
    table = TABLES["accelerometer_trusted"]
    write(pipeline, table, pipeline.lakehouse.read(table).where("false"))
    assert checks.no_backlog(pipeline, table, DAY).counts == {"readings_missing": 2}
    lake_up_to_date.put(landed("accelerometer", DATES[0], "new", phone(1, 5)))
    landing = TABLES["accelerometer_landing"]
    outcome = checks.every_object_is_accounted_for(pipeline, landing, DAY)
    assert not outcome.passed
    assert outcome.counts["objects_of_dates_that_changed"] == 2


def version_of(lake, name: str) -> int:
    return lake.pipeline.lakehouse.log(TABLES[name]).version


def test_a_failing_blocking_check_leaves_the_tables_downstream_as_they_were(
    lake_up_to_date, monkeypatch
):
    before = {name: version_of(lake_up_to_date, name) for name in TABLES}
    members = checks._members

    def nobody(pipeline, table):
        found, *how = members(pipeline, table)
        return (found.limit(0) if table.name == "accelerometer_trusted" else found, *how)

    monkeypatch.setattr(checks, "_members", nobody)
    lake_up_to_date.put(landed("customer", DATES[0], "new", person(3, 0, None)))
    with pytest.raises(dg.DagsterError):
        lake_up_to_date.materialize(DATES[0])
    lake_up_to_date.pipeline.refresh()
    after = {name: version_of(lake_up_to_date, name) for name in TABLES}
    failing = DeltaTable(
        lake_up_to_date.settings.uri(TABLES["accelerometer_trusted"].path),
        version=before["accelerometer_trusted"],
        storage_options=lake_up_to_date.lake.storage_options,
    )
    assert failing.to_pyarrow_table().num_rows == 4, "the version before stays readable"
    assert after["accelerometer_trusted"] > before["accelerometer_trusted"]
    for name in ("customers_curated", "step_trainer_trusted", "machine_learning_curated"):
        assert after[name] == before[name]


def test_a_date_that_is_wholly_malformed_stays_named_after_the_next_good_one(lake):
    lake.put(landed("customer", DATES[0], "c", person(1, 0, None)))
    lake.put(landed("customer", DATES[1], "c", "not a record"))
    lake.put(landed("customer", DATES[2], "c", person(2, 0, None)))
    lake.catch_up()
    customers = TABLES["customer_landing"]
    outcome = checks.few_records_are_malformed(lake.pipeline, customers, [DATES[2]])
    assert not outcome.passed
    assert outcome.counts["worst_date"] == str(DATES[1])
    assert outcome.counts["dates_above"] == 1
    age = checks.newest_ingest_date_is_recent(lake.pipeline, customers, None).counts["age_in_days"]
    lake.put(landed("customer", today(), "c", "not a record"))
    lake.catch_up()
    recent = checks.newest_ingest_date_is_recent(lake.pipeline, customers, None)
    assert recent.counts["age_in_days"] == age, "a date without a record does not count"


def test_a_check_can_be_run_by_itself(lake_up_to_date):
    key = dg.AssetCheckKey(dg.AssetKey("customer_landing"), "few_records_are_malformed")
    job = lake_up_to_date.defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_check_selection={key}
    )
    result = job.execute_in_process()
    assert [done.asset_check_key for done in result.get_asset_check_evaluations()] == [key]


def test_the_pairs_of_a_join_on_time_alone_are_counted(lake):
    day = date(2022, 6, 18)
    lake.put(landed("customer", day, "c", person(1, 0, 1), person(2, 0, 1)))
    lake.put(landed("accelerometer", day, "a", phone(1, 0), phone(2, 0)))
    lake.put(landed("step_trainer", day, "s", device(1, 0), device(2, 0)))
    lake.materialize(day)
    outcome = checks.pairs_are_of_one_person(
        lake.pipeline, TABLES["machine_learning_curated"], [day]
    )
    assert outcome.counts == {"pairs": 2, "pairs_of_different_people": 2}


def test_a_check_asks_again_where_the_engine_lost_its_query(lake, monkeypatch):
    three_days(lake)
    table, asked = TABLES["customer_trusted"], []

    def lost_at_first(*arguments):
        asked.append(1)
        if len(asked) == 1:
            raise SparkConnectGrpcException("internal error: task context not found for operation")
        return checks.only_consenting_customers(*arguments)

    monkeypatch.setattr(asset_checks, "checks_of", lambda _table: [(lost_at_first, True)])
    (outcome,) = asset_checks.outcomes(lake.pipeline, table, None).values()
    assert outcome.passed
    assert len(asked) == 2
