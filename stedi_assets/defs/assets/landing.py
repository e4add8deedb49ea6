"""The landing zone's assets; what a row is stands in `stedi_assets/tables/landing.py`."""

import dagster as dg

from stedi_assets.defs.assets import common
from stedi_assets.defs.assets.common import asset_arguments
from stedi_assets.incremental.pipeline import Batch, Pipeline
from stedi_assets.tables.schemas import ENTITIES, TABLES

# Where producers land their objects: the lineage starts at S3.
landed_objects = [common.landed_objects(name) for name in ENTITIES]


@dg.asset(ins={"records": dg.AssetIn("customer_objects")}, **asset_arguments("customer_landing"))
def customer_landing(pipeline: dg.ResourceParam[Pipeline], records: Batch) -> Batch:
    """The records of the customer objects that landed on the run's dates."""
    return pipeline.compute(TABLES["customer_landing"], records=records)


@dg.asset(
    ins={"records": dg.AssetIn("accelerometer_objects")}, **asset_arguments("accelerometer_landing")
)
def accelerometer_landing(pipeline: dg.ResourceParam[Pipeline], records: Batch) -> Batch:
    """The records of the accelerometer objects that landed on the run's dates."""
    return pipeline.compute(TABLES["accelerometer_landing"], records=records)


@dg.asset(
    ins={"records": dg.AssetIn("step_trainer_objects")}, **asset_arguments("step_trainer_landing")
)
def step_trainer_landing(pipeline: dg.ResourceParam[Pipeline], records: Batch) -> Batch:
    """The records of the step trainer objects that landed on the run's dates."""
    return pipeline.compute(TABLES["step_trainer_landing"], records=records)
