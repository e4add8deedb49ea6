"""The suites of the embedded engine, run again on Apache Spark: the same tests, the same tables."""

# ruff: noqa: F401, F403
import os
from datetime import date
from pathlib import Path

import pytest

from stedi_assets_tests.test_engine_differences import *
from stedi_assets_tests.test_io_manager import *
from stedi_assets_tests.test_tables import (
    test_a_range_run_over_odd_data_gives_the_reference_tables,
    test_plain_data_on_one_date_takes_the_fast_way_and_gives_the_reference_tables,
)

ENTITIES = ("customer", "accelerometer", "step_trainer")


def test_the_published_data_gives_the_reference_tables(lake):
    """Needs STEDI_PUBLISHED_DATA, a folder with customer/, accelerometer/, step_trainer/."""
    folder = os.environ.get("STEDI_PUBLISHED_DATA")
    if not folder:
        pytest.skip("the published data is not here: STEDI_PUBLISHED_DATA does not name its folder")
    day = date(2022, 6, 18)
    for entity in ENTITIES:
        for file in sorted((Path(folder) / entity).iterdir()):
            lake.put({f"landing/{entity}/ingest_date={day}/{file.name}": file.read_bytes()})
    lake.materialize(day)
    wrong = {name: (len(few), len(many)) for name, (few, many) in lake.differences().items()}
    assert wrong == {}, "rows missing and rows too many, by table"
