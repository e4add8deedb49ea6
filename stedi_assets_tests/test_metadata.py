"""What runs tell: numbers, pictures and previews, and nothing personal in any of them."""

import base64
import re
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from stedi_assets.defs import charts
from stedi_assets.defs.metadata import MASK, PREVIEW_ROWS, preview, session
from stedi_assets.tables.schemas import ENTITIES, TABLES
from stedi_assets_tests.conftest import TestLake
from stedi_assets_tests.odd_data import DATES, plain_objects

DAYS = [date(2022, 6, 18) + timedelta(n) for n in range(5)]
IMAGE = re.compile(r"!\[([^\]]+)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)")


def told(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str | None], dict[str, Any]]:
    """The metadata of each materialization of a run, by table and partition."""
    return {
        (event.asset_key.path[-1], event.partition): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def test_a_materialization_tells_counts_and_sizes_of_the_date_and_of_the_table(
    lake: TestLake,
) -> None:
    lake.put(plain_objects())
    of_tables = told(lake.materialize(DATES[0]))
    assert {
        name: metadata.get("dagster/partition_row_count", metadata["dagster/row_count"])
        for (name, _), metadata in of_tables.items()
    } == {name: sum(bag.values()) for name, bag in lake.expected().items()}
    for (name, partition), metadata in of_tables.items():
        assert {"delta_version", "table_size_mb", "table_files", "dagster/uri", "preview"} <= set(
            metadata
        )
        assert ("partition_size_mb" in metadata) == (partition is not None)
        assert ("partition_malformed_percent" in metadata) == name.endswith("_landing")
        assert "@" not in metadata["preview"]


def test_a_range_run_tells_of_every_date_its_own_and_draws_the_newest(lake: TestLake) -> None:
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[1]))
    of_dates = told(lake.materialize(DATES[0], DATES[1], "step_trainer_landing"))
    old, new = (of_dates["step_trainer_landing", str(day)] for day in DATES[:2])
    for metadata in (old, new):
        assert metadata["dagster/partition_row_count"] == 100
        assert metadata["dagster/row_count"] == 200
        assert metadata["partition_files"] < metadata["table_files"]
    assert IMAGE.fullmatch(new["picture"])
    assert f"| ingest_date | {DATES[1]} |" in new["preview"]
    assert not {"picture", "preview"} & set(old)


def test_a_run_tells_on_the_landed_objects_what_it_was_built_from(lake: TestLake) -> None:
    objects = plain_objects()
    lake.put(objects)
    result = lake.materialize(DATES[0], None, *(f"{entity}_landing" for entity in ENTITIES))
    observed = {
        observation.asset_key.path[-1]: {n: v.value for n, v in observation.metadata.items()}
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION
        for observation in [event.event_specific_data.asset_observation]
    }
    for entity in ENTITIES:
        sizes = [len(body) for key, body in objects.items() if f"/{entity}/" in key]
        assert observed[f"{entity}_objects"]["objects"] == len(sizes)


def test_customers_are_told_by_consent_and_drawn(lake: TestLake) -> None:
    lake.put(plain_objects())
    metadata = told(lake.materialize(DATES[0]))["customers_curated", None]
    rows = {name: sum(bag.values()) for name, bag in lake.expected().items()}
    assert metadata["customers_consenting"] == rows["customer_trusted"]
    assert metadata["customers_with_readings"] == rows["customers_curated"]
    assert metadata["customers_landed"] >= rows["customer_trusted"]
    assert IMAGE.fullmatch(metadata["picture"])


def test_no_personal_value_of_the_data_is_in_any_event(lake: TestLake) -> None:
    lake.put(plain_objects())
    key = f"landing/customer/ingest_date={DATES[0]}/bad.json"
    lake.put({key: b'{"email": "secret@example.com", "phone": 5550100'})
    result = lake.materialize(DATES[0])
    events = "\n".join(str(event) for event in result.all_events)
    subjects = {row[0] for row in lake.table("machine_learning_curated")}
    for value in ("@example.com", "Ann Example", "5550100", "1990-01-01", "secret"):
        assert value not in events.lower()
    assert subjects
    assert not any(subject[:8] in events for subject in subjects)


def test_the_preview_masks_people_and_tells_times_as_dates() -> None:
    table = TABLES["customer_trusted"]
    row: dict[str, Any] = {c.name: f"value of {c.name}" for c in table.columns}
    row["shareWithFriendsAsOfDate"] = 1
    row |= {"registrationDate": 1655510400123, "shareWithResearchAsOfDate": 0}
    row |= {"shareWithPublicAsOfDate": None, "lastUpdateDate": 10**18}
    shown = preview(table, [row])
    assert all(f"| {name} | {MASK} |" in shown for name in table.personal_columns)
    assert "| registrationDate | 2022-06-18 00:00:00.123 |" in shown
    assert "| shareWithResearchAsOfDate | 0 |" in shown
    assert "| shareWithPublicAsOfDate |  |" in shown
    assert f"| lastUpdateDate | {10**18} |" in shown
    assert preview(table, []) == "No rows."


def test_the_preview_tells_equal_values_once() -> None:
    table = TABLES["machine_learning_curated"]
    rows = [{c.name: n for c in table.columns} | {"ingest_date": DAYS[0]} for n in (1, 2, 2)]
    assert "| distanceFromObject | 1 · 2 |" in preview(table, rows)
    assert f"| ingest_date | {DAYS[0]} |" in preview(table, rows)


def test_the_preview_is_narrow_enough_for_the_page() -> None:
    for table in TABLES.values():
        row = {c.name: 10**12 if c.type == "bigint" else "long " * 20 for c in table.columns}
        lines = preview(table, [row] * PREVIEW_ROWS).splitlines()
        assert max(map(len, lines)) < 120


def test_a_session_is_of_one_subject_in_order_without_pauses_or_times_of_day() -> None:
    rows = [
        {"subject_id": who, "sensorReadingTime": 1655510400000 + at, "distanceFromObject": at}
        | {axis: float(at) for axis in "xyz"}
        for who, at in (("a", 5000), ("b", 1), ("a", 1000), ("a", 2000), ("a", 90_000_000))
    ]
    found = session(rows)
    assert found["seconds"] == [0, 1, 4]
    assert found["distances"] == [1000, 2000, 5000]
    assert found["accelerations"]["z"] == [1000, 2000, 5000]


@pytest.mark.parametrize("days", [DAYS[:1], DAYS, [DAYS[0] + timedelta(n) for n in range(1600)]])
def test_every_picture_is_a_small_png_with_a_text_for_who_cannot_see_it(days: list[date]) -> None:
    counts = {day: 10**6 + n for n, day in enumerate(days)}
    many = [float(n) for n in range(400)]
    for markdown in (
        charts.records_by_date(counts, {days[0]: 7}),
        charts.funnel({"landed": 200, "consenting": 120, "with readings": 0}),
        charts.funnel({"consenting": 0}),
        charts.training_pairs(many, many, dict.fromkeys("xyz", many), counts),
    ):
        found = IMAGE.fullmatch(markdown)
        assert found
        assert base64.b64decode(found[2]).startswith(b"\x89PNG")
        assert len(markdown) < 100_000


def test_the_same_numbers_give_the_same_picture() -> None:
    counts = {day: n for n, day in enumerate(DAYS)}
    assert charts.records_by_date(counts, {}) == charts.records_by_date(counts, {})
