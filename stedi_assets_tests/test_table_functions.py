"""The tables as functions of DataFrames, against the plain-Python reference: no S3, no Dagster."""

from collections import Counter
from datetime import date

import pytest

from stedi_assets.incremental.table_functions import table_functions
from stedi_assets.settings import Settings
from stedi_assets.spark.session import SparkSessions
from stedi_assets.tables.schemas import BUILD_ORDER, TABLES, spark_schema
from stedi_assets_tests.odd_data import odd_objects, plain_objects
from stedi_assets_tests.reference import expected_tables

pytestmark = pytest.mark.unit
SALT = "a salt of the tests"


@pytest.mark.parametrize("scope", ["customer", "reading"])
@pytest.mark.parametrize("objects", [plain_objects(), odd_objects(0), odd_objects(1)])
def test_every_table_past_landing_is_the_references(objects, scope):
    settings = Settings("b", "", embedded=True, consent_scope=scope, subject_salt=SALT)
    today = date(2022, 7, 1)
    expected = expected_tables(
        objects, scope=scope, salt=SALT, first=settings.first_ingest_date, today=today
    )
    spark = SparkSessions().spark_session
    functions = table_functions(settings)
    frames = {}
    for name in BUILD_ORDER:
        table = TABLES[name]
        if table.zone == "landing":
            rows = list(expected[name].elements())
            frames[name] = spark.createDataFrame(rows, spark_schema(table.columns))
        else:
            frames[name] = functions[name](**{other: frames[other] for other in table.upstream})
            rows = Counter(tuple(row) for row in frames[name].collect())
            assert rows == expected[name], name
