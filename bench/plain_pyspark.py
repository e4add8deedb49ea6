"""What a good data engineer would write with PySpark on Apache Spark: the tables, disk to disk.

python -m bench.plain_pyspark SOURCE OUT: as `duckdb_script.py`, on `local[2]`; needs Java 17.
"""

import json
import sys
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

WHITE = " \t\r\n"
SCHEMAS = {
    "customer": (
        "customerName string, email string, phone string, birthDay string, serialNumber string,"
        " registrationDate bigint, lastUpdateDate bigint, shareWithResearchAsOfDate bigint,"
        " shareWithPublicAsOfDate bigint, shareWithFriendsAsOfDate bigint,"
        " _corrupt_record string"
    ),
    "accelerometer": (
        "user string, timestamp bigint, x double, y double, z double, _corrupt_record string"
    ),
    "step_trainer": (
        "sensorReadingTime bigint, serialNumber string, distanceFromObject bigint,"
        " _corrupt_record string"
    ),
}


def main(source: Path, out: Path) -> dict[str, int]:
    """Make the tables; rows by table."""
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.memory", "8g")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    counts: dict[str, int] = {}

    def save(name: str, frame: DataFrame) -> DataFrame:
        frame.write.mode("overwrite").parquet(f"{out}/{name}")
        saved = spark.read.parquet(f"{out}/{name}")
        counts[name] = saved.count()
        return saved

    def email(name: str) -> F.Column:
        return F.lower(F.btrim(F.col(name), F.lit(WHITE)))

    serial = F.btrim(F.col("serialNumber"), F.lit(WHITE))
    landed = {}
    for entity, schema in SCHEMAS.items():
        read = spark.read.schema(schema).json(f"{source}/{entity}")
        dated = read.withColumn("ingest_date", F.lit("2022-06-18").cast("date"))
        saved = save(f"{entity}_landing", dated)
        landed[entity] = saved.where("_corrupt_record IS NULL").drop("_corrupt_record")
    newest = Window.partitionBy("email").orderBy(
        F.desc("lastUpdateDate"),
        F.desc("ingest_date"),
        F.when(F.col("shareWithResearchAsOfDate") > 0, 1).otherwise(0),
        F.desc_nulls_last("shareWithResearchAsOfDate"),
        F.desc("serialNumber"),
    )
    current = (
        landed["customer"]
        .withColumn("email", email("email"))
        .withColumn("serialNumber", serial)
        .withColumn("n", F.row_number().over(newest))
        .where("n = 1")
        .drop("n")
        .cache()
    )
    customers = save("customer_trusted", current.where("shareWithResearchAsOfDate > 0"))
    readings = save(
        "accelerometer_trusted",
        landed["accelerometer"]
        .withColumn("user", email("user"))
        .join(customers.select(F.col("email").alias("user")), "user", "left_semi")
        .groupBy("user", "timestamp", "x", "y", "z")
        .agg(F.min("ingest_date").alias("ingest_date")),
    )
    users = readings.select(F.col("user").alias("email"))
    curated = save("customers_curated", customers.join(users, "email", "left_semi"))
    owned = current.groupBy("serialNumber").count().where("count = 1")
    devices = curated.join(owned, "serialNumber", "left_semi").select("serialNumber")
    steps = save(
        "step_trainer_trusted",
        landed["step_trainer"]
        .withColumn("serialNumber", serial)
        .join(devices, "serialNumber", "left_semi")
        .groupBy("sensorReadingTime", "serialNumber", "distanceFromObject")
        .agg(F.min("ingest_date").alias("ingest_date")),
    )
    owners = curated.select("serialNumber", F.col("email").alias("user"))
    save(
        "machine_learning_curated",
        steps.withColumnRenamed("ingest_date", "step_date")
        .withColumn("timestamp", F.col("sensorReadingTime"))
        .join(owners, "serialNumber")
        .join(readings, ["user", "timestamp"])
        .select(
            F.sha2(F.concat(F.lit("salt"), "user"), 256).alias("subject_id"),
            "sensorReadingTime",
            "distanceFromObject",
            "x",
            "y",
            "z",
            F.greatest("ingest_date", "step_date").alias("ingest_date"),
        ),
    )
    return counts


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
