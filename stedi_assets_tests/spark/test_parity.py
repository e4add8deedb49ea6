"""The published data on Apache Spark; the suites marked `every_engine` run on it as well."""

import os
from datetime import date
from pathlib import Path

import pytest

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
