"""The contract's eight tables as one plain PySpark script on Apache Spark, local JSON to parquet.

    python -m bench.plain_pyspark SOURCE OUT [--master local[2]] [--salt S]

What a good data engineer would write: one ingest date, consent scope `customer`, one JSON object a
line. A line that does not fit its schema, or lacks a required value, stands in its landing table as
`_corrupt_record`. Simpler than the contract in what no plain script would do: where a required
value is missing, `_corrupt_record` is the record written anew, and several objects on one line are
read as the first of them. Needs Java 17. Prints the counts as JSON.
"""

import argparse
import json
import os
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

INGEST_DATE = "2022-06-18"
WHITE = " \t\r\n"

FIELDS = {
    "customer": (
        "customerName string, email string, phone string, birthDay string, serialNumber string,"
        " registrationDate bigint, lastUpdateDate bigint, shareWithResearchAsOfDate bigint,"
        " shareWithPublicAsOfDate bigint, shareWithFriendsAsOfDate bigint"
    ),
    "accelerometer": (
        "user string, timestamp bigint, timeStamp bigint, x double, y double, z double"
    ),
    "step_trainer": "sensorReadingTime bigint, serialNumber string, distanceFromObject bigint",
}
REQUIRED_TEXT = {
    "customer": ["email", "serialNumber"],
    "accelerometer": ["user"],
    "step_trainer": ["serialNumber"],
}
REQUIRED_NUMBERS = {
    "customer": ["registrationDate", "lastUpdateDate"],
    "accelerometer": ["timestamp", "x", "y", "z"],
    "step_trainer": ["sensorReadingTime", "distanceFromObject"],
}


def session(master: str) -> SparkSession:
    """Apache Spark on this machine, with as many shuffle partitions as two cores want."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    spark = (
        SparkSession.builder.master(master)
        .appName("plain_pyspark")
        .config("spark.driver.memory", "8g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.caseSensitive", "true")  # `timestamp` and `timeStamp`
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def trimmed(name: str) -> Column:
    """A text column without the white space around it."""
    return F.btrim(F.col(name), F.lit(WHITE))


def normalised(name: str) -> Column:
    """An email as it is compared."""
    return F.lower(trimmed(name))


def landing(spark: SparkSession, source: Path, entity: str) -> DataFrame:
    """Every record of an entity; a malformed one with its text and null in every field."""
    schema = f"{FIELDS[entity]}, _corrupt_record string"
    read = spark.read.schema(schema).json(f"{source}/{entity}", mode="PERMISSIVE")
    if entity == "accelerometer":
        read = read.withColumn("timestamp", F.coalesce("timestamp", "timeStamp")).drop("timeStamp")
        read = read.withColumns({c: F.when(F.col(c) == 0, 0.0).otherwise(F.col(c)) for c in "xyz"})
    good = F.col("_corrupt_record").isNull()
    for name in REQUIRED_TEXT[entity]:
        good &= F.coalesce(trimmed(name) != "", F.lit(False))
    for name in REQUIRED_NUMBERS[entity]:
        good &= F.col(name).isNotNull()
    names = [name for name in read.columns if name != "_corrupt_record"]
    text = F.coalesce("_corrupt_record", F.to_json(F.struct(*names)))
    return read.select(
        *(F.when(good, F.col(name)).alias(name) for name in names),
        F.when(~good, text).alias("_corrupt_record"),
        F.lit(INGEST_DATE).cast("date").alias("ingest_date"),
    )


def current_records(customers: DataFrame) -> DataFrame:
    """Every customer's newest record, consenting or not."""
    newest = Window.partitionBy("email").orderBy(
        F.desc("lastUpdateDate"),
        F.desc("ingest_date"),
        F.when(F.col("shareWithResearchAsOfDate") > 0, 1).otherwise(0),
        F.desc("shareWithResearchAsOfDate"),
        F.desc("serialNumber"),
        F.desc("customerName"),
        F.desc("phone"),
        F.desc("birthDay"),
        F.desc("registrationDate"),
        F.desc("shareWithPublicAsOfDate"),
        F.desc("shareWithFriendsAsOfDate"),
    )
    return (
        customers.withColumns(
            {"email": normalised("email"), "serialNumber": trimmed("serialNumber")}
        )
        .withColumn("n", F.row_number().over(newest))
        .where("n = 1")
        .drop("n")
    )


def accelerometer_trusted(landed: DataFrame, customers: DataFrame) -> DataFrame:
    """The readings of consenting customers, each once."""
    return (
        landed.withColumn("user", normalised("user"))
        .join(customers.select(F.col("email").alias("user")), "user", "left_semi")
        .groupBy("user", "timestamp", "x", "y", "z")
        .agg(F.min("ingest_date").alias("ingest_date"))
    )


def step_trainer_trusted(landed: DataFrame, current: DataFrame, curated: DataFrame) -> DataFrame:
    """The readings of devices that one current record names, and a curated customer's it is."""
    owned = current.groupBy("serialNumber").count().where("count = 1")
    devices = curated.join(owned, "serialNumber", "left_semi").select("serialNumber")
    return (
        landed.withColumn("serialNumber", trimmed("serialNumber"))
        .join(devices, "serialNumber", "left_semi")
        .groupBy("sensorReadingTime", "serialNumber", "distanceFromObject")
        .agg(F.min("ingest_date").alias("ingest_date"))
    )


def machine_learning_curated(
    steps: DataFrame, readings: DataFrame, curated: DataFrame, salt: str
) -> DataFrame:
    """Steps and phone readings of the same customer at the same millisecond."""
    owners = curated.select(
        "serialNumber",
        F.col("email").alias("user"),
        F.sha2(F.concat(F.lit(salt), "email"), 256).alias("subject_id"),
    )
    return (
        steps.withColumnsRenamed({"ingest_date": "step_date"})
        .withColumn("timestamp", F.col("sensorReadingTime"))
        .join(owners, "serialNumber")
        .join(readings, ["user", "timestamp"])
        .select(
            "subject_id",
            "sensorReadingTime",
            "distanceFromObject",
            "x",
            "y",
            "z",
            F.greatest("step_date", "ingest_date").alias("ingest_date"),
        )
    )


def make_tables(spark: SparkSession, source: Path, out: Path, salt: str) -> dict[str, int]:
    """Write the eight tables; their counts, which parquet's footers tell.

    What is read more than once is read from the parquet just written: cheaper than the JSON again.
    """
    counts: dict[str, int] = {}

    def save(name: str, frame: DataFrame) -> DataFrame:
        frame.write.mode("overwrite").parquet(f"{out}/{name}")
        saved = spark.read.schema(frame.schema).parquet(f"{out}/{name}")
        counts[name] = saved.count()
        return saved

    landed = {}
    for entity in FIELDS:
        saved = save(f"{entity}_landing", landing(spark, source, entity))
        landed[entity] = saved.where("_corrupt_record IS NULL").drop("_corrupt_record")
    current = current_records(landed["customer"]).cache()
    customers = save("customer_trusted", current.where("shareWithResearchAsOfDate > 0"))
    readings = save(
        "accelerometer_trusted", accelerometer_trusted(landed["accelerometer"], customers)
    )
    users = readings.select(F.col("user").alias("email"))
    curated = save("customers_curated", customers.join(users, "email", "left_semi"))
    steps = save(
        "step_trainer_trusted", step_trainer_trusted(landed["step_trainer"], current, curated)
    )
    save("machine_learning_curated", machine_learning_curated(steps, readings, curated, salt))
    return counts


def main() -> None:
    """Make the tables and print how many rows each has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--salt", default="salt")
    arguments = parser.parse_args()
    spark = session(arguments.master)
    counts = make_tables(spark, arguments.source, arguments.out, arguments.salt)
    spark.stop()
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
