"""Whole tables against the plain-Python reference, on generated data with every odd case."""

import pytest

from stedi_assets_tests.odd_data import DATES, odd_objects, plain_objects


@pytest.mark.every_engine
@pytest.mark.parametrize(("scope", "seed"), [("customer", 0), ("reading", 1)])
def test_a_range_run_over_odd_data_gives_the_reference_tables(new_lake, scope, seed):
    lake = new_lake(consent_scope=scope)
    lake.put(odd_objects(seed))
    lake.materialize(DATES[0], DATES[-1])
    assert lake.differences() == {}
    assert all(lake.expected().values()), "every table has rows"


@pytest.mark.every_engine
def test_plain_data_on_one_date_takes_the_fast_way_and_gives_the_reference_tables(lake):
    lake.put(plain_objects())
    lake.materialize(DATES[0])
    assert lake.differences() == {}


@pytest.mark.slow
def test_a_repeated_run_gives_the_same_tables(lake):
    lake.put(odd_objects(3))
    lake.materialize(DATES[0], DATES[-1])
    lake.materialize(DATES[0], DATES[-1])
    lake.materialize(DATES[1])
    assert lake.differences() == {}


@pytest.mark.slow
def test_runs_of_a_day_each_give_the_tables_of_one_range_run(lake):
    objects = odd_objects(4)
    first = {
        key.replace(str(day), str(DATES[0])) if "/customer/" in key else key: body
        for key, body in objects.items()
        for day in DATES
        if str(day) in key
    }
    people = "".join(
        f'{{"user":"p{n}@example.com","timestamp":1655564400024,"x":9,"y":9,"z":9}}'
        for n in range(10)
    )
    first[f"landing/accelerometer/ingest_date={DATES[0]}/everyone.json"] = people.encode()
    lake.put(first)
    for day in DATES:
        lake.materialize(day)
    assert lake.differences() == {}
