"""The contract's terms that more than one table uses, as DataFrame expressions."""

import unicodedata
from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

from stedi_assets.settings import load_settings
from stedi_assets.spark.dialect import as_number, composed

if TYPE_CHECKING:
    import dagster as dg
    from pyspark.sql import Column, DataFrame

WHITE_SPACE = " \t\r\n"


def normalized_email(column: str) -> "Column":
    """An email as it is compared and stored: trimmed, lower case, in Unicode's NFC."""
    return composed(F.lower(F.btrim(F.col(column), F.lit(WHITE_SPACE))))


def normalize_email(email: str) -> str:
    """An email as `normalized_email` makes it, of one that is at hand."""
    return unicodedata.normalize("NFC", email.strip(WHITE_SPACE).lower())


def normalized_serial_number(column: str = "serialNumber") -> "Column":
    """A serial number as it is compared and stored: trimmed."""
    return F.btrim(F.col(column), F.lit(WHITE_SPACE))


def well_formed(landing: "DataFrame") -> "DataFrame":
    """The rows of a landing table that go past the landing zone."""
    return landing.where(F.col("_corrupt_record").isNull()).drop("_corrupt_record")


def consents() -> "Column":
    """Whether a customer record agrees to share with research: null, absent and 0 are "no"."""
    return F.coalesce(F.col("shareWithResearchAsOfDate") > 0, F.lit(False))


def current_records(customer_landing: "DataFrame") -> "DataFrame":
    """The current record of every customer, one a normalized email.

    The greatest lastUpdateDate; at a tie the later ingest date; then one without consent; then
    the greater in the columns below, null lowest. Never depends on file order or engine.
    """
    ties = (
        "shareWithResearchAsOfDate",
        "serialNumber",
        "customerName",
        "phone",
        "birthDay",
        "registrationDate",
        "shareWithPublicAsOfDate",
        "shareWithFriendsAsOfDate",
    )
    newest_first = Window.partitionBy("email").orderBy(
        F.desc_nulls_last("lastUpdateDate"),
        F.desc_nulls_last("ingest_date"),
        as_number(F.col("shareWithResearchAsOfDate") > 0),
        *(F.desc_nulls_last(name) for name in ties),
    )
    return (
        well_formed(customer_landing)
        .withColumn("email", normalized_email("email"))
        .withColumn("serialNumber", normalized_serial_number())
        .withColumn("place", F.row_number().over(newest_first))
        .where("place = 1")
        .drop("place")
    )


def devices_with_one_owner(current: "DataFrame") -> "DataFrame":
    """serialNumber and email of every device that just one current record names."""
    return (
        current.groupBy("serialNumber")
        .agg(F.count("*").alias("claims"), F.max("email").alias("email"))
        .where("claims = 1")
        .select("serialNumber", "email")
    )


def once_in_the_earliest_date(readings: "DataFrame", keys: tuple[str, ...]) -> "DataFrame":
    """Repeats of a reading as one row, in the earliest ingest date that it landed on."""
    return readings.groupBy(*keys).agg(F.min("ingest_date").alias("ingest_date"))


def in_dates_of(context: "dg.AssetExecutionContext") -> "Column":
    """Whether a row belongs to the ingest dates that the run writes."""
    keys = context.partition_key_range
    return F.col("ingest_date").between(
        F.lit(keys.start).cast("date"), F.lit(keys.end).cast("date")
    )


def subject_id(email: str) -> "Column":
    """The pseudonym of a person: lower-case hexadecimal SHA-256 of salt and stored email."""
    return F.sha2(F.concat(F.lit(load_settings().salt()), F.col(email)), 256)
