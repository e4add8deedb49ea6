"""Any records, cut into any objects, landed in any order: always the reference's tables."""

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stedi_assets_tests import driver
from stedi_assets_tests.odd_data import ODD_LINES, T0, compact
from stedi_assets_tests.test_catch_up import DATES, landed

# Few values of everything, so that repeats, ties, shared devices and pairs are the rule.
_PEOPLE = st.sampled_from(["p1@example.com", " P1@Example.com", "p2@example.com", "p3@example.com"])
_DEVICES = st.sampled_from(["d1", " d1", "d2", "d3"])
_MOMENTS = st.integers(0, 3).map(lambda n: T0 + n)
_RECORDS = {
    "customer": st.fixed_dictionaries(
        {
            "email": _PEOPLE,
            "serialNumber": _DEVICES,
            "registrationDate": st.just(T0),
            "lastUpdateDate": st.integers(0, 2),
        },
        optional={"shareWithResearchAsOfDate": st.sampled_from([0, None, T0, T0 + 2])},
    ),
    "accelerometer": st.fixed_dictionaries(
        {
            "user": _PEOPLE,
            "timestamp": _MOMENTS,
            "x": st.sampled_from([0.5, -1.0]),
            "y": st.just(0.25),
            "z": st.just(0.0),
        }
    ),
    "step_trainer": st.fixed_dictionaries(
        {
            "sensorReadingTime": _MOMENTS,
            "serialNumber": _DEVICES,
            "distanceFromObject": st.integers(1, 2),
        }
    ),
}


def _objects(entity: str) -> st.SearchStrategy[dict[str, bytes]]:
    """An object of an entity, under one of two names, so that one is often rewritten."""
    line = st.one_of(*3 * [_RECORDS[entity].map(compact)], st.sampled_from(ODD_LINES[entity]))
    return st.builds(
        lambda day, name, lines: landed(entity, day, name, *lines),
        st.sampled_from(DATES),
        st.sampled_from(["one", "two"]),
        st.lists(line, max_size=5),
    )


_LANDED = st.one_of(*map(_objects, _RECORDS))
# A history is what happens one after another: objects land together, one is deleted (by its place
# among those there), all is brought up to date.
HISTORIES = st.lists(
    st.one_of(
        *2 * [st.lists(_LANDED, min_size=1, max_size=4)],
        st.integers(0, 9),
        st.just("bring up to date"),
    ),
    min_size=1,
    max_size=6,
)
_FEW = settings(
    max_examples=6,
    derandomize=True,
    print_blob=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def happen(lake, history: list, bring_up_to_date) -> None:
    """Let a history happen and compare whenever all is up to date."""
    for event in [*history, "bring up to date"]:
        if isinstance(event, list):
            for objects in event:
                lake.put(objects)
        elif isinstance(event, int):
            if lake.objects:
                lake.remove(sorted(lake.objects)[event % len(lake.objects)])
        else:
            bring_up_to_date()
            assert lake.differences() == {}


@pytest.mark.slow
@given(history=HISTORIES, scope=st.sampled_from(["customer", "reading"]))
@_FEW
def test_any_history_through_catch_up_ends_in_the_reference_tables(new_lake, history, scope):
    lake = new_lake(consent_scope=scope)
    happen(lake, history, lake.catch_up)


@pytest.mark.slow
@given(history=HISTORIES, scope=st.sampled_from(["customer", "reading"]))
@_FEW
def test_any_history_through_sensor_and_runs_ends_in_the_reference_tables(new_lake, history, scope):
    lake = new_lake(consent_scope=scope, quiet_seconds="0")
    with dg.DagsterInstance.ephemeral() as instance:
        happen(lake, history, lambda: driver.until_quiet(lake, instance))
