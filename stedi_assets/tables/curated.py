"""The curated zone: what data scientists use."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from stedi_assets.tables.rules import subject_id
from stedi_assets.tables.schemas import TABLES


def customers_curated(customer_trusted: DataFrame, accelerometer_trusted: DataFrame) -> DataFrame:
    """The consenting customers who have at least one row in `accelerometer_trusted`.

    accelerometer_trusted: its `user` column is all that is asked of it.
    """
    with_readings = accelerometer_trusted.select(F.col("user").alias("email")).distinct()
    return customer_trusted.join(with_readings, "email", "left_semi").select(
        *TABLES["customers_curated"].column_names
    )


def machine_learning_curated(
    accelerometer_trusted: DataFrame,
    step_trainer_trusted: DataFrame,
    customers_curated: DataFrame,
    *,
    salt: str,
) -> DataFrame:
    """The pairs of a device reading and a phone reading of the same customer at the same moment.

    A pair lies in the later of its two readings' ingest dates. salt: the key of `subject_id`.
    """
    owners = customers_curated.select("serialNumber", F.col("email").alias("user"))
    steps = step_trainer_trusted.join(owners, "serialNumber", "inner").select(
        "user",
        F.col("sensorReadingTime").alias("timestamp"),
        "distanceFromObject",
        F.col("ingest_date").alias("step_ingest_date"),
    )
    return (
        accelerometer_trusted.join(steps, ["user", "timestamp"], "inner")
        .withColumn("subject_id", subject_id("user", salt))
        .withColumn("sensorReadingTime", F.col("timestamp"))
        .withColumn("ingest_date", F.greatest("ingest_date", "step_ingest_date"))
        .select(*TABLES["machine_learning_curated"].column_names)
    )
