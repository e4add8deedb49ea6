"""The project's definitions with an asset whose engine fails and quotes what it was working on.

For `dagster asset materialize -m stedi_assets_tests.broken`; BREAK says how.
"""

import os
from dataclasses import replace

from pyspark.sql import functions as F

from stedi_assets.definitions import defs
from stedi_assets.incremental import inputs

__all__ = ["defs"]
_read = inputs.read_landed
_BREAK = {
    "cast": lambda text: text.cast("bigint"),
    "raise": lambda text: F.raise_error(F.concat(F.lit("Who is "), text)).cast("bigint"),
    "date": lambda text: F.to_date(text).cast("string").cast("bigint"),
}


def _read_and_fail(spark, store, entity, objects, *how):
    records = _read(spark, store, entity, objects, *how)
    if entity.name != "customer":
        return records
    name = F.coalesce("customerName", F.lit("1"))
    broken = _BREAK[os.environ["BREAK"]](name)
    return replace(records, frame=records.frame.withColumn("registrationDate", broken))


inputs.read_landed = _read_and_fail
