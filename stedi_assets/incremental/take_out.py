"""Takes rows of people who are not in any more out of partitions that are not built now.

Of those that could not be built, or on which the process died (docs/decisions/0009): nobody who
withdrew waits until they can be. It only filters what is there, and enters nothing into the ledger:
what it changed counts as out of date until it is built.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from stedi_assets.incremental.ledger import PartitionKey
from stedi_assets.incremental.membership import users_with_readings
from stedi_assets.incremental.partition_inputs import LakeState
from stedi_assets.incremental.rollups import CURRENT_RECORDS, DATES_OF_USERS, Rollup, rolled_up
from stedi_assets.lakehouse.dates import on_days
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.spark.errors import redact_engine_errors
from stedi_assets.tables.rules import consent, consents, current_records, device_owners, subject_id
from stedi_assets.tables.schemas import Table, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def take_out(
    lakehouse: Lakehouse, state: LakeState, table: Table, keys: Collection[PartitionKey]
) -> int:
    """Take who is not in, by the customers' current records, out of partitions; how many rows.

    Of a partition with a lost file nobody can say whose its rows are: all go. One commit a
    partition: of most no row goes, and many together may be what the process died of.

    table: past the landing zone. StediError where S3 or the engine fails.
    """
    doing = f"Taking who withdrew out of {table.name}"
    with redact_engine_errors(doing), write_lock(lakehouse.store, table.name):
        lakehouse.refresh([table])
        log = lakehouse.log(table)
        files = {key: log.of(key) for key in keys if log.of(key)} if log else {}
        lost = files.keys() & state.lost_files.get(table.name, frozenset())
        kept = lakehouse.spark_session.createDataFrame([], spark_schema(table.columns))
        left: dict[PartitionKey, int] = {}
        if sound := files.keys() - lost:
            read = [file for key in sound for file in files[key]]
            rows = lakehouse.read(table, _on(sound), log, read)
            kept = _of_members(lakehouse, state, table, rows)
            counted = kept.groupBy(_key(table)).agg(F.count("*")).collect()
            left = {row[0]: row[1] for row in counted}
        before = {key: sum(file.rows for file in files[key]) for key in files}
        gone = [key for key in files if key in lost or before[key] > left.get(key, 0)]
        for key in gone:
            of_key = kept.where("false" if key in lost else _on([key]))
            lakehouse.replace(table, of_key, [key] if key else None, rows=before[key])
    return sum(before[key] - left.get(key, 0) for key in gone)


def _key(table: Table) -> "Column":
    return F.col("ingest_date") if table.partitioned else F.lit(None).cast("date")


def _on(keys: Collection[PartitionKey]) -> str:
    days = sorted(key for key in keys if key)
    return on_days(days) if days else "true"


def _of_members(
    lakehouse: Lakehouse, state: LakeState, table: Table, rows: "DataFrame"
) -> "DataFrame":
    """The rows of a table that are of people who are in, and of devices that are theirs alone."""

    def rollup(which: Rollup) -> "DataFrame":
        return rolled_up(lakehouse, which, state.logs, state.ledgers).frame

    settings = lakehouse.store.settings
    current = current_records(rollup(CURRENT_RECORDS))
    consenting = current.where(consents())
    since = consent(consenting, settings.consent_scope)
    if table.name == "customer_trusted":
        members = rows.join(consenting.select("email"), "email", "left_semi")
    elif table.name == "accelerometer_trusted":
        members = rows.join(since, "user", "inner").where("timestamp >= since")
    else:
        with_readings = users_with_readings(rollup(DATES_OF_USERS), since).select("user").distinct()
        curated = with_readings.withColumnRenamed("user", "email")
        owners = device_owners(current, curated)
        if table.name == "customers_curated":
            members = rows.join(curated, "email", "left_semi")
        elif table.name == "step_trainer_trusted":
            members = rows.join(owners, "serialNumber", "left_semi")
        else:
            subject = subject_id("user", settings.salt()).alias("subject_id")
            subjects = since.join(owners.select("user"), "user", "left_semi")
            members = rows.join(subjects.select(subject, "since"), "subject_id", "inner").where(
                "sensorReadingTime >= since"
            )
    return members.select(*rows.columns)
