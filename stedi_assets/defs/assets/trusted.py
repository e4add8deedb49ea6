"""The trusted zone's assets; what a row is stands in `stedi_assets/tables/trusted.py`."""

import dagster as dg

from stedi_assets.defs.assets.common import asset_arguments
from stedi_assets.incremental.pipeline import Batch, Pipeline
from stedi_assets.tables.schemas import TABLES


@dg.asset(**asset_arguments("customer_trusted"))
def customer_trusted(pipeline: dg.ResourceParam[Pipeline], customer_landing: Batch) -> Batch:
    """The rows of `tables.trusted.customer_trusted`, from customer_landing."""
    return pipeline.compute(TABLES["customer_trusted"], customer_landing=customer_landing)


@dg.asset(**asset_arguments("accelerometer_trusted"))
def accelerometer_trusted(
    pipeline: dg.ResourceParam[Pipeline], accelerometer_landing: Batch, customer_trusted: Batch
) -> Batch:
    """The rows of `tables.trusted.accelerometer_trusted`, from its two upstream tables."""
    return pipeline.compute(
        TABLES["accelerometer_trusted"],
        accelerometer_landing=accelerometer_landing,
        customer_trusted=customer_trusted,
    )


@dg.asset(**asset_arguments("step_trainer_trusted"))
def step_trainer_trusted(
    pipeline: dg.ResourceParam[Pipeline],
    step_trainer_landing: Batch,
    customer_landing: Batch,
    customers_curated: Batch,
) -> Batch:
    """The rows of `tables.trusted.step_trainer_trusted`, from its three upstream tables."""
    return pipeline.compute(
        TABLES["step_trainer_trusted"],
        step_trainer_landing=step_trainer_landing,
        customer_landing=customer_landing,
        customers_curated=customers_curated,
    )
