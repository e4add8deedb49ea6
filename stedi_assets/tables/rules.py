"""The contract's terms that more than one table uses, as DataFrame expressions."""

import unicodedata
from typing import TYPE_CHECKING

from pyspark.sql import Window
from pyspark.sql import functions as F

from stedi_assets.spark.dialect import as_number, composed

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

WHITE_SPACE = " \t\r\n"


def normalized_email(column: str) -> "Column":
    """An email as it is compared and stored: trimmed, lower case, in Unicode's NFC."""
    return composed(F.lower(F.btrim(F.col(column), F.lit(WHITE_SPACE))))


def normalize_email(email: str) -> str:
    """An email as `normalized_email` makes it, of one that is at hand."""
    return unicodedata.normalize("NFC", email.strip(WHITE_SPACE).lower())


def normalized_serial_number() -> "Column":
    """The column `serialNumber` as it is compared and stored: trimmed."""
    return F.btrim(F.col("serialNumber"), F.lit(WHITE_SPACE))


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


def since(consent_scope: str) -> "Column":
    """Since when the readings of a customer who consents count (ms since the epoch): `since`.

    With the scope `customer` every reading counts, so it is the least moment there is.
    """
    every_reading = F.lit(-(2**63)).cast("bigint")
    moment = F.col("shareWithResearchAsOfDate") if consent_scope == "reading" else every_reading
    return moment.alias("since")


def consent(customer_trusted: "DataFrame", consent_scope: str) -> "DataFrame":
    """Who consents and since when their readings count: `user`, `since` (ms since the epoch).

    customer_trusted: its columns `email` and `shareWithResearchAsOfDate`.
    """
    return customer_trusted.select(F.col("email").alias("user"), since(consent_scope))


def device_owners(current: "DataFrame", customers: "DataFrame") -> "DataFrame":
    """Whose device it is: `serialNumber` and `user`, of devices with one owner among customers.

    A device that the current records of two people name, consenting or not, is nobody's.
    current: everybody's current record, as `current_records` gives it; customers: `email` of those
    whose devices are wanted.
    """
    owners = (
        current.groupBy("serialNumber")
        .agg(F.count("*").alias("claims"), F.max("email").alias("email"))
        .where("claims = 1")
    )
    return owners.join(customers.select("email"), "email", "left_semi").select(
        "serialNumber", F.col("email").alias("user")
    )


def once_in_the_earliest_date(readings: "DataFrame", keys: tuple[str, ...]) -> "DataFrame":
    """Repeats of a reading as one row, in the earliest ingest date that it landed on."""
    return readings.groupBy(*keys).agg(F.min("ingest_date").alias("ingest_date"))


def subject_id(email: str, salt: str) -> "Column":
    """The pseudonym of a person: lower-case hexadecimal SHA-256 of salt and stored email."""
    return F.sha2(F.concat(F.lit(salt), F.col(email)), 256)
