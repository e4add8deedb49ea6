"""The suites of the embedded engine, run again on Apache Spark: the same tests, the same tables."""

# ruff: noqa: F401, F403
import os
from datetime import date
from pathlib import Path

import pytest

from stedi_assets_tests.test_catch_up import (
    test_a_device_claimed_by_a_person_without_consent_is_nobodys,
    test_a_reading_that_lands_late_in_an_old_date_moves_its_repeat,
    test_a_withdrawal_rewrites_exactly_the_partitions_that_hold_the_person,
)
from stedi_assets_tests.test_engine_differences import *
from stedi_assets_tests.test_io_manager import *
from stedi_assets_tests.test_tables import *

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
