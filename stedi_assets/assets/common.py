"""What every table's asset says of itself: zone, row, columns, kinds, owners."""

from typing import Any

import dagster as dg

from stedi_assets.freshness import BY_ZONE
from stedi_assets.partitions import INGEST_DATES
from stedi_assets.schemas import TABLES

OWNERS = ["team:stedi-data-engineering"]


def described(name: str) -> dict[str, Any]:
    """The arguments of `@dg.asset` that follow from the table's record in `schemas.py`."""
    table = TABLES[name]
    columns = [dg.TableColumn(c.name, c.type, c.description) for c in table.columns]
    return {
        "name": name,
        "description": f"A row is: {table.row}",
        "group_name": table.zone,
        "owners": OWNERS,
        "kinds": {"pyspark", "deltalake", "s3"},
        "metadata": {
            "dagster/column_schema": dg.TableSchema(columns),
            "dagster/table_name": f"{table.zone}.{name}",
        },
        "partitions_def": INGEST_DATES if table.partitioned else None,
        "freshness_policy": BY_ZONE[table.zone],
        "backfill_policy": dg.BackfillPolicy.single_run(),
    }
