"""The trusted zone: only people who agreed to share their data for research, repeats taken out."""

import dagster as dg
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from stedi_assets.defs.assets.common import described
from stedi_assets.defs.io_managers import EARLIER_ROWS, SUMMARY
from stedi_assets.defs.partitions import UP_TO_THE_DAY
from stedi_assets.settings import load_settings
from stedi_assets.tables.rules import (
    consents,
    current_records,
    devices_with_one_owner,
    in_dates_of,
    normalized_email,
    normalized_serial_number,
    once_in_the_earliest_date,
    well_formed,
)
from stedi_assets.tables.schemas import TABLES

# Only a customer's current record matters, so records that were replaced need not be read.
_CURRENT_RECORDS = dg.AssetIn(
    partition_mapping=dg.AllPartitionMapping(), metadata={SUMMARY: "current_records"}
)


@dg.asset(ins={"customer_landing": _CURRENT_RECORDS}, **described("customer_trusted"))
def customer_trusted(customer_landing: DataFrame) -> DataFrame:
    return (
        current_records(customer_landing)
        .where(consents())
        .select(*TABLES["customer_trusted"].column_names)
    )


@dg.asset(
    ins={
        "accelerometer_landing": dg.AssetIn(
            partition_mapping=UP_TO_THE_DAY, metadata={EARLIER_ROWS: ["accelerometer_landing"]}
        )
    },
    **described("accelerometer_trusted"),
)
def accelerometer_trusted(
    context: dg.AssetExecutionContext,
    accelerometer_landing: DataFrame,
    customer_trusted: DataFrame,
) -> DataFrame:
    table = TABLES["accelerometer_trusted"]
    since = {"customer": F.lit(True), "reading": F.col("timestamp") >= F.col("since")}
    customers = customer_trusted.select(
        F.col("email").alias("user"), F.col("shareWithResearchAsOfDate").alias("since")
    )
    readings = (
        well_formed(accelerometer_landing)
        .withColumn("user", normalized_email("user"))
        .join(customers, "user", "inner")
        .where(since[load_settings().consent_scope])
    )
    return (
        once_in_the_earliest_date(readings, table.keys)
        .where(in_dates_of(context))
        .select(*table.column_names)
    )


@dg.asset(
    ins={
        "step_trainer_landing": dg.AssetIn(
            partition_mapping=UP_TO_THE_DAY, metadata={EARLIER_ROWS: ["step_trainer_landing"]}
        ),
        "customer_landing": _CURRENT_RECORDS,
    },
    **described("step_trainer_trusted"),
)
def step_trainer_trusted(
    context: dg.AssetExecutionContext,
    step_trainer_landing: DataFrame,
    customer_landing: DataFrame,
    customers_curated: DataFrame,
) -> DataFrame:
    table = TABLES["step_trainer_trusted"]
    devices = devices_with_one_owner(current_records(customer_landing)).join(
        customers_curated.select("email"), "email", "left_semi"
    )
    readings = (
        well_formed(step_trainer_landing)
        .withColumn("serialNumber", normalized_serial_number())
        .join(devices, "serialNumber", "left_semi")
    )
    return (
        once_in_the_earliest_date(readings, table.keys)
        .where(in_dates_of(context))
        .select(*table.column_names)
    )
