"""The landing zone: what landed, one row a record, repeats and malformed ones included."""

from pyspark.sql import DataFrame

from stedi_assets.tables.schemas import TABLES


def customer_landing(records: DataFrame) -> DataFrame:
    """The landed records of customers.

    records: what the reader made of landed objects (`landing/reader.py`), with their ingest date.
    """
    return records.select(*TABLES["customer_landing"].column_names)


def accelerometer_landing(records: DataFrame) -> DataFrame:
    """The landed phone readings; records as for `customer_landing`."""
    return records.select(*TABLES["accelerometer_landing"].column_names)


def step_trainer_landing(records: DataFrame) -> DataFrame:
    """The landed device readings; records as for `customer_landing`."""
    return records.select(*TABLES["step_trainer_landing"].column_names)
