"""The trusted zone: only people who agreed to share their data for research, repeats taken out."""

from pyspark.sql import DataFrame

from stedi_assets.tables.rules import (
    consent,
    consents,
    current_records,
    device_owners,
    normalized_email,
    normalized_serial_number,
    once_in_the_earliest_date,
    well_formed,
)
from stedi_assets.tables.schemas import TABLES


def customer_trusted(customer_landing: DataFrame) -> DataFrame:
    """The current record of every customer whose current record consents.

    customer_landing: its rows, or the current records among them, which give the same.
    """
    return (
        current_records(customer_landing)
        .where(consents())
        .select(*TABLES["customer_trusted"].column_names)
    )


def accelerometer_trusted(
    accelerometer_landing: DataFrame, customer_trusted: DataFrame, *, consent_scope: str
) -> DataFrame:
    """The phone readings of consenting customers, each once, in the earliest date it landed on.

    accelerometer_landing: the rows of the dates wanted, and those of earlier dates that may repeat
    them. consent_scope: `customer` (all of a consenting customer's readings) or `reading` (those
    taken since they consented).
    """
    table = TABLES["accelerometer_trusted"]
    readings = readings_of_consenting(
        accelerometer_landing, customer_trusted, consent_scope=consent_scope
    )
    return once_in_the_earliest_date(readings, table.keys).select(*table.column_names)


def readings_of_consenting(
    accelerometer_landing: DataFrame, customer_trusted: DataFrame, *, consent_scope: str
) -> DataFrame:
    """The landed phone readings that may be shared, repeats included; as for the table."""
    return (
        well_formed(accelerometer_landing)
        .withColumn("user", normalized_email("user"))
        .join(consent(customer_trusted, consent_scope), "user", "inner")
        .where("timestamp >= since")
    )


def readings_of_owned_devices(
    step_trainer_landing: DataFrame, customer_landing: DataFrame, customers_curated: DataFrame
) -> DataFrame:
    """The landed device readings that may be shared, repeats included; as for the table."""
    owners = device_owners(current_records(customer_landing), customers_curated)
    return (
        well_formed(step_trainer_landing)
        .withColumn("serialNumber", normalized_serial_number())
        .join(owners, "serialNumber", "left_semi")
    )


def step_trainer_trusted(
    step_trainer_landing: DataFrame, customer_landing: DataFrame, customers_curated: DataFrame
) -> DataFrame:
    """The readings of devices that belong to one customer of `customers_curated`, each once.

    step_trainer_landing: as for `accelerometer_trusted`; customer_landing: as for
    `customer_trusted`.
    """
    table = TABLES["step_trainer_trusted"]
    readings = readings_of_owned_devices(step_trainer_landing, customer_landing, customers_curated)
    return once_in_the_earliest_date(readings, table.keys).select(*table.column_names)
