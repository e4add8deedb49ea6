"""The curated zone's assets; what a row is stands in `stedi_assets/tables/curated.py`."""

import dagster as dg

from stedi_assets.defs.assets.common import asset_arguments
from stedi_assets.incremental.pipeline import Batch, Pipeline
from stedi_assets.tables.schemas import TABLES


@dg.asset(**asset_arguments("customers_curated"))
def customers_curated(
    pipeline: dg.ResourceParam[Pipeline], customer_trusted: Batch, accelerometer_trusted: Batch
) -> Batch:
    """The rows of `tables.curated.customers_curated`, from its two upstream tables."""
    return pipeline.compute(
        TABLES["customers_curated"],
        customer_trusted=customer_trusted,
        accelerometer_trusted=accelerometer_trusted,
    )


@dg.asset(**asset_arguments("machine_learning_curated"))
def machine_learning_curated(
    pipeline: dg.ResourceParam[Pipeline],
    accelerometer_trusted: Batch,
    step_trainer_trusted: Batch,
    customers_curated: Batch,
) -> Batch:
    """The rows of `tables.curated.machine_learning_curated`, from its three upstream tables."""
    return pipeline.compute(
        TABLES["machine_learning_curated"],
        accelerometer_trusted=accelerometer_trusted,
        step_trainer_trusted=step_trainer_trusted,
        customers_curated=customers_curated,
    )
