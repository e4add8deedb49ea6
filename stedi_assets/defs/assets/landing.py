"""The landing zone: what landed, one row a record, repeats and malformed ones included."""

import dagster as dg
from pyspark.sql import DataFrame

from stedi_assets.defs.assets import common
from stedi_assets.defs.assets.common import described
from stedi_assets.tables.schemas import ENTITIES, TABLES

# Where producers land their objects: the lineage starts at S3.
landed_objects = [common.landed_objects(name) for name in ENTITIES]


def _landed(name: str) -> dg.AssetIn:
    return dg.AssetIn(f"{name}_objects", input_manager_key="landed_objects")


@dg.asset(ins={"records": _landed("customer")}, **described("customer_landing"))
def customer_landing(records: DataFrame) -> DataFrame:
    return records.select(*TABLES["customer_landing"].column_names)


@dg.asset(ins={"records": _landed("accelerometer")}, **described("accelerometer_landing"))
def accelerometer_landing(records: DataFrame) -> DataFrame:
    return records.select(*TABLES["accelerometer_landing"].column_names)


@dg.asset(ins={"records": _landed("step_trainer")}, **described("step_trainer_landing"))
def step_trainer_landing(records: DataFrame) -> DataFrame:
    return records.select(*TABLES["step_trainer_landing"].column_names)
