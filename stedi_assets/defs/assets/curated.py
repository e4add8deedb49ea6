"""The curated zone: what data scientists use."""

import dagster as dg
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from stedi_assets.defs.assets.common import described
from stedi_assets.defs.io_managers import EARLIER_ROWS, SUMMARY
from stedi_assets.defs.partitions import UP_TO_THE_DAY
from stedi_assets.tables.rules import in_dates_of, subject_id
from stedi_assets.tables.schemas import TABLES

_UP_TO_THE_DAY = dg.AssetIn(
    partition_mapping=UP_TO_THE_DAY,
    metadata={EARLIER_ROWS: ["accelerometer_trusted", "step_trainer_trusted"]},
)


@dg.asset(
    ins={
        # Whose readings are there, and on which days: all that is asked of them here.
        "accelerometer_trusted": dg.AssetIn(metadata={SUMMARY: "accelerometer_trusted_dates"})
    },
    **described("customers_curated"),
)
def customers_curated(customer_trusted: DataFrame, accelerometer_trusted: DataFrame) -> DataFrame:
    readers = accelerometer_trusted.select(F.col("user").alias("email")).distinct()
    return customer_trusted.join(readers, "email", "left_semi").select(
        *TABLES["customers_curated"].column_names
    )


@dg.asset(
    ins={"accelerometer_trusted": _UP_TO_THE_DAY, "step_trainer_trusted": _UP_TO_THE_DAY},
    **described("machine_learning_curated"),
)
def machine_learning_curated(
    context: dg.AssetExecutionContext,
    accelerometer_trusted: DataFrame,
    step_trainer_trusted: DataFrame,
    customers_curated: DataFrame,
) -> DataFrame:
    owners = customers_curated.select("serialNumber", F.col("email").alias("user"))
    steps = step_trainer_trusted.join(owners, "serialNumber", "inner").select(
        "user",
        F.col("sensorReadingTime").alias("timestamp"),
        "distanceFromObject",
        F.col("ingest_date").alias("step_ingest_date"),
    )
    return (
        accelerometer_trusted.join(steps, ["user", "timestamp"], "inner")
        .withColumn("subject_id", subject_id("user"))
        .withColumn("sensorReadingTime", F.col("timestamp"))
        .withColumn("ingest_date", F.greatest("ingest_date", "step_ingest_date"))
        .where(in_dates_of(context))
        .select(*TABLES["machine_learning_curated"].column_names)
    )
