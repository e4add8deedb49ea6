"""Ways in which tables once stayed wrong while `stedi catch-up` had nothing to do.

Each ends in `up_to_date`: one catch-up makes every table the reference's, a second does nothing.
"""

from datetime import date, timedelta

import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from stedi_assets.cli.main import main
from stedi_assets.incremental.ledger import read_ledger
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests import seams
from stedi_assets_tests.driver import catch_up_elsewhere
from stedi_assets_tests.odd_data import T0
from stedi_assets_tests.test_catch_up import DATES, device, landed, person, phone, three_days


def up_to_date(lake) -> None:
    lake.catch_up()
    assert lake.differences() == {}
    assert lake.catch_up() == 0


def keys(lake, path: str) -> list[str]:
    return [found["Key"] for found in lake.lake.objects(path)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["catch-up", "erase"])
def test_a_withdrawal_after_many_commits_takes_the_person_out(lake, how):
    """Delta checkpoints lie between the commits."""
    three_days(lake)
    for n in range(12):
        lake.put(landed("customer", DATES[0], f"update {n}", person(1, n, T0)))
        lake.materialize(DATES[0], DATES[0], "customer_landing", "customer_trusted")
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 20, None)))
    if how == "erase":
        result = CliRunner().invoke(main, ["erase", "--now"])
        assert result.exit_code == 0, result.output[-1000:]
    up_to_date(lake)


@pytest.mark.slow
def test_a_withdrawal_after_many_dates_with_late_objects_takes_the_person_out(lake):
    """Each date is a run of its own, and there are checkpoints between them."""
    days = [DATES[0] + timedelta(2 * n) for n in range(5)]
    for n, day in enumerate(days):
        lake.put(landed("customer", day, "c", person(n, 0, T0)))
        lake.put(landed("accelerometer", day, "a", phone(n, n)))
    lake.catch_up()
    for n, day in enumerate(days):
        lake.put(landed("customer", day, "late", person(n + 5, 0, T0)))
        lake.put(landed("customer", day + timedelta(20), "c", person(n + 10, 0, T0)))
    lake.catch_up()
    lake.put(landed("customer", days[0], "withdrawn", person(1, 1, None)))
    up_to_date(lake)


def test_a_device_claimed_and_let_go_between_two_looks_is_its_owners_again(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "claim", person(3, 0, None, device="d1")))
    lake.materialize(DATES[0], DATES[2])
    assert not any(row[1] == "d1" for row in lake.table("step_trainer_trusted"))
    lake.put(landed("customer", DATES[2], "let go", person(3, 1, None)))
    lake.materialize(DATES[2])
    up_to_date(lake)
    assert any(row[1] == "d1" for row in lake.table("step_trainer_trusted"))


@pytest.mark.slow
@pytest.mark.parametrize("entity", ["accelerometer", "step_trainer"])
def test_pairs_made_by_hand_before_their_halves_are_made_again(lake, entity):
    three_days(lake)
    late = {"accelerometer": phone(2, 2000), "step_trainer": device(1, 0)}[entity]
    lake.put(landed(entity, DATES[0], "late", late))
    lake.materialize(DATES[0], DATES[0], f"{entity}_landing")
    lake.materialize(DATES[0], DATES[2], "machine_learning_curated")
    up_to_date(lake)


def consent_and_withdrawal_after_a_gap(lake) -> None:
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0), person(2, 0, T0)))
    lake.put(landed("accelerometer", DATES[0], "a", phone(1, 0), phone(2, 0)))
    lake.put(landed("step_trainer", DATES[0], "s", device(1, 0), device(2, 0)))
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))


def test_a_first_catch_up_over_dates_with_a_gap_takes_a_later_withdrawal_in(lake):
    consent_and_withdrawal_after_a_gap(lake)
    up_to_date(lake)


@pytest.mark.slow
def test_a_catch_up_after_dates_run_one_by_one_takes_a_later_withdrawal_in(lake):
    consent_and_withdrawal_after_a_gap(lake)
    lake.materialize(DATES[0])
    lake.materialize(DATES[2])
    up_to_date(lake)


@pytest.mark.slow
def test_consent_granted_and_withdrawn_between_two_looks_leaves_no_step(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[1], "granted", person(3, 0, T0)))
    lake.put(landed("accelerometer", DATES[1], "theirs", phone(3, 0)))
    lake.put(landed("step_trainer", DATES[1], "theirs", device(3, 0)))
    lake.materialize(DATES[1])
    assert any(row[1] == "d3" for row in lake.table("step_trainer_trusted"))
    lake.put(landed("customer", DATES[2], "withdrawn", person(3, 1, None)))
    lake.materialize(DATES[2])
    up_to_date(lake)


@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    ["customer_trusted", "accelerometer_trusted", "customers_curated", "step_trainer_trusted"],
)
def test_a_slow_run_that_read_before_a_withdrawal_reads_again_before_it_commits(lake, table):
    three_days(lake)

    def withdraw() -> None:
        lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
        catch_up_elsewhere()

    last = list(TABLES)[list(TABLES).index(table) :]
    with seams.before_write(table, withdraw):
        lake.materialize(DATES[0], DATES[2], *last)
    assert lake.differences() == {}, "nobody is back, not even until the next catch-up"
    up_to_date(lake)


@pytest.mark.slow
@pytest.mark.parametrize("table", list(TABLES))
def test_a_lost_table_is_built_again(lake, table):
    three_days(lake)
    lake.lake.delete(keys(lake, f"{TABLES[table].path}/"))
    up_to_date(lake)


@pytest.mark.slow
@pytest.mark.parametrize("table", list(TABLES))
def test_a_lost_data_file_is_written_again(lake, table):
    three_days(lake)
    files = [key for key in keys(lake, f"{TABLES[table].path}/") if key.endswith(".parquet")]
    (lost,) = [file for file in files if "/_delta_log/" not in file][-1:]
    lake.lake.delete([lost])
    up_to_date(lake)


@pytest.mark.slow
@pytest.mark.parametrize("third", range(3))
def test_what_is_remembered_is_made_again_where_files_of_it_are_missing(lake, third):
    three_days(lake)
    remembered = [key for key in keys(lake, "_stedi/") if not key.endswith("settings.json")]
    lake.lake.delete(remembered[third::3])
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    up_to_date(lake)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [True, False])
def test_nothing_is_remembered_that_could_not_be_made_again(lake, changed):
    three_days(lake)
    lake.lake.delete(keys(lake, "_stedi/"))
    if changed:
        lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    up_to_date(lake)


def test_all_that_is_remembered_is_made_again_in_one_run_whatever_gaps_dates_have(lake):
    three_days(lake)
    lake.put(landed("accelerometer", DATES[2] + timedelta(5), "a", phone(1, 3000)))
    lake.put(landed("accelerometer", DATES[2] + timedelta(9), "a", phone(1, 4000)))
    lake.catch_up()
    lake.lake.delete(keys(lake, "_stedi/"))
    assert lake.catch_up() == 1
    assert lake.differences() == {}


@pytest.mark.slow
@pytest.mark.parametrize("point", seams.POINTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_killed_around_a_landing_write_of_a_withdrawal_is_made_up_for(lake, point, when):
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    with seams.kill(point, "customer_landing", when) as died:
        lake.materialize(DATES[2])
    assert died
    up_to_date(lake)


@pytest.mark.slow
def test_a_table_rolled_back_to_an_older_version_is_brought_forward(lake):
    """As `RESTORE` does it: an older version's files are the newest commit's."""
    three_days(lake)
    table = DeltaTable(
        lake.settings.uri(TABLES["accelerometer_trusted"].path),
        storage_options=lake.lake.storage_options,
    )
    before = table.version()
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    lake.catch_up()
    table.update_incremental()
    table.restore(before)
    up_to_date(lake)


@pytest.mark.slow
def test_days_run_in_the_wrong_order_by_hand_are_put_right(lake):
    days = [date(2022, 6, 18) + timedelta(n) for n in range(3)]
    lake.put(landed("customer", days[0], "c", person(1, 0, T0)))
    for n, day in enumerate(days):
        lake.put(landed("accelerometer", day, "a", phone(1, 0), phone(1, n)))
        lake.put(landed("step_trainer", day, "s", device(1, 0), device(1, n)))
    for day in reversed(days):
        lake.materialize(day)
    up_to_date(lake)


def test_s3_sends_a_ledger_again_only_where_it_was_written(lake):
    three_days(lake)
    table = TABLES["accelerometer_landing"]
    first = read_ledger(lake.lake, table)
    assert read_ledger(lake.lake, table, first) is first
    lake.put(landed("accelerometer", DATES[1], "late", phone(1, 7)))
    lake.catch_up()
    assert read_ledger(lake.lake, table, first) == read_ledger(lake.lake, table) != first
