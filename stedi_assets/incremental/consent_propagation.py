"""Who is in, and which partitions hold rows of people whose membership changed since.

The people and devices that the tables were last seen to be right for are kept under
`_stedi/settled/`, in a folder of their own for every time; `settled.json` there names it, and the
versions of the tables that they came from. On which dates changed people have readings is known
(`summaries.py`); of these dates the tables' own definitions, restricted to those people, are
compared with what the tables hold: exactly the partitions whose rows differ are marked stale.
"""

import functools
import uuid
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from stedi_assets.defs.assets import curated, trusted
from stedi_assets.defs.io_managers import DeltaIOManager
from stedi_assets.defs.partitions import INGEST_DATES
from stedi_assets.incremental import stale_markers as stale
from stedi_assets.incremental.rollups import (
    CURRENT_RECORDS,
    LANDED_DATES_OF_DEVICES,
    LANDED_DATES_OF_USERS,
    dates_of,
    on_days,
    summarized,
)
from stedi_assets.spark.errors import redact_engine_errors
from stedi_assets.tables.rules import (
    current_records,
    devices_with_one_owner,
    normalized_email,
    normalized_serial_number,
    subject_id,
)
from stedi_assets.tables.schemas import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SETTLED_FOLDER = "_stedi/settled/"
SETTLED = f"{SETTLED_FOLDER}settled.json"
_TABLES = ("customer_landing", "customer_trusted", "customers_curated")


class Membership:
    """One look at who is in, over a settled lake's tables."""

    def __init__(self, io: DeltaIOManager) -> None:
        self.io, self.lake = io, io.lake
        self.versions = self._versions()
        self.settled: dict[str, Any] = self.lake.get_json(SETTLED) or {}

    def _versions(self) -> dict[str, int | None]:
        self.lake.look_again()
        logs = {name: self.lake.log(name) for name in _TABLES}
        return {name: log.version if log else None for name, log in logs.items()}

    def is_settled(self) -> bool:
        """Whether nothing was written since the tables were last seen to be right."""
        if None in self.versions.values():
            return True  # nothing to settle before the first run
        return bool(self.settled.get("versions") == self.versions)

    @redact_engine_errors("Looking for the partitions of changed people")
    def settle(self) -> bool:
        """Mark the partitions that changed people concern; True where there may be more to do.

        Where there are none, what was compared is kept as settled.
        """
        _ = self.io.spark.spark_session  # column functions need a session to be there
        consent, owners = self._consent(), self._owners()
        people = self._changed_people(consent)
        devices = self._changed_devices(owners, people)
        more = False
        for table, dates in (
            ("accelerometer_trusted", lambda: self._accelerometer(people)),
            ("step_trainer_trusted", lambda: self._steps(devices)),
            ("machine_learning_curated", lambda: self._pairs(people, devices)),
        ):
            found = dates()
            stale.mark(self.lake, table, found)
            more = more or bool(found)
        return more or not self._keep(consent, owners)

    def _read(self, name: str, days: set[date] | None = None) -> "DataFrame":
        return self.io.read(TABLES[name], None if days is None else on_days(days))

    def _consent(self) -> "DataFrame":
        return self._consent_of(self._read("customer_trusted"))

    def _consent_of(self, customer_trusted: "DataFrame") -> "DataFrame":
        from pyspark.sql import functions as F

        reading = self.lake.settings.consent_scope == "reading"
        since = F.col("shareWithResearchAsOfDate") if reading else F.lit(0).cast("bigint")
        return customer_trusted.select(F.col("email").alias("user"), since.alias("since"))

    def _consents_meanwhile(self) -> "list[DataFrame]":
        """Who consented at the writes between what was settled and now: runs went by that."""
        table = TABLES["customer_trusted"]
        before = self.settled.get("versions", {}).get(table.name)
        now = self.versions[table.name]
        if before is None or now is None:
            return []
        spark, uri = self.io.spark.spark_session, self.lake.settings.uri(table.path)
        versions = [v for v in range(before + 1, now) if self.lake.is_a_write(table, v)]
        # A reader each: they keep their options by reference. No views: those are few and shared.
        readers = [spark.read.format("delta").option("versionAsOf", str(v)) for v in versions]
        return [self._consent_of(reader.load(uri)) for reader in readers]

    def _owners(self) -> "DataFrame":
        from pyspark.sql import functions as F

        return (
            self._devices()
            .join(self._read("customers_curated").select("email"), "email", "left_semi")
            .select("serialNumber", F.col("email").alias("user"))
        )

    def _devices(self) -> "DataFrame":
        return devices_with_one_owner(current_records(summarized(self.io, CURRENT_RECORDS)))

    def _settled(self, name: str, like: "DataFrame") -> "DataFrame":
        spark = self.io.spark.spark_session
        path = f"{self.settled.get('folder')}/{name}"
        if not self.settled or not any(self.lake.objects(f"{path}/")):
            return spark.createDataFrame([], like.schema)  # not known: everybody may have changed
        return spark.read.format("delta").load(self.lake.settings.uri(path))

    def _changed_people(self, consent: "DataFrame") -> "DataFrame":
        """Who is in otherwise than settled, or was meanwhile."""
        from pyspark.sql import functions as F

        states = [consent, self._settled("consent", consent), *self._consents_meanwhile()]
        rows = functools.reduce(lambda whole, state: whole.unionAll(state), states)
        seen = rows.groupBy("user", "since").agg(F.count("*").alias("n"))
        return seen.where(F.col("n") < len(states)).select("user").distinct()

    def _changed_devices(self, owners: "DataFrame", people: "DataFrame") -> "DataFrame":
        """Devices owned otherwise than settled, and those of the changed people."""
        settled = self._settled("owners", owners)
        theirs = owners.unionAll(settled).join(people, "user", "left_semi")
        return differing(owners, settled).unionAll(theirs.select(*owners.columns)).distinct()

    def _accelerometer(self, people: "DataFrame") -> set[date]:
        if people.isEmpty():
            return set()
        days = dates_of(summarized(self.io, LANDED_DATES_OF_USERS), people)
        of_people = self._read("accelerometer_landing", days).join(
            people.withColumnRenamed("user", "person"),
            normalized_email("user") == _column("person"),
            "left_semi",
        )
        want = trusted.accelerometer_trusted(
            _whole_history(), of_people, self._read("customer_trusted")
        )
        have = self._read("accelerometer_trusted", days).join(people, "user", "left_semi")
        return _ingest_dates(differing(want, have))

    def _steps(self, devices: "DataFrame") -> set[date]:
        if devices.isEmpty():
            return set()
        numbers = devices.select("serialNumber").distinct()
        days = dates_of(summarized(self.io, LANDED_DATES_OF_DEVICES), numbers)
        of_devices = self._read("step_trainer_landing", days).join(
            numbers.withColumnRenamed("serialNumber", "device"),
            normalized_serial_number() == _column("device"),
            "left_semi",
        )
        want = trusted.step_trainer_trusted(
            _whole_history(),
            of_devices,
            summarized(self.io, CURRENT_RECORDS),
            self._read("customers_curated"),
        )
        have = self._read("step_trainer_trusted", days).join(numbers, "serialNumber", "left_semi")
        return _ingest_dates(differing(want, have))

    def _pairs(self, people: "DataFrame", devices: "DataFrame") -> set[date]:
        concerned = people.unionAll(devices.select("user")).distinct()
        if concerned.isEmpty():
            return set()
        # A pair lies on the later date of its halves, so on a date of the person's or the device's.
        numbers = devices.select("serialNumber").distinct()
        days = dates_of(summarized(self.io, LANDED_DATES_OF_USERS), concerned) | dates_of(
            summarized(self.io, LANDED_DATES_OF_DEVICES), numbers
        )
        want = curated.machine_learning_curated(
            _whole_history(),
            self._read("accelerometer_trusted", days).join(concerned, "user", "left_semi"),
            self._read("step_trainer_trusted", days),
            self._read("customers_curated"),
        )
        subjects = concerned.select(subject_id("user").alias("subject_id"))
        have = self._read("machine_learning_curated", days).join(
            subjects, "subject_id", "left_semi"
        )
        return _ingest_dates(differing(want, have))

    def _keep(self, consent: "DataFrame", owners: "DataFrame") -> bool:
        """Keep who is in as settled; False where a table was written since we first looked."""
        folder = f"{SETTLED_FOLDER}{uuid.uuid4().hex}"
        for name, frame in (("consent", consent), ("owners", owners)):
            uri = self.lake.settings.uri(f"{folder}/{name}")
            frame.write.format("delta").mode("overwrite").save(uri)
        kept = self._versions() == self.versions
        if kept:
            self.lake.put_json(SETTLED, {"versions": self.versions, "folder": folder})
        left = self.settled.get("folder") if kept else folder
        if left:
            self.lake.delete([one["Key"] for one in self.lake.objects(f"{left}/")])
        return kept


def _column(name: str) -> Any:
    from pyspark.sql import functions as F

    return F.col(name)


def _whole_history() -> dg.AssetExecutionContext:
    """A context in which a table's definition takes every ingest date."""
    first, last = INGEST_DATES.get_first_partition_key(), INGEST_DATES.get_last_partition_key()
    assert first is not None
    assert last is not None
    return dg.build_asset_context(partition_key_range=dg.PartitionKeyRange(first, last))


def differing(left: "DataFrame", right: "DataFrame") -> "DataFrame":
    """The rows that stand more often on one side than on the other, once each."""
    from pyspark.sql import functions as F

    names = left.columns
    both = left.withColumn("_n", F.lit(1)).unionAll(
        right.select(*names).withColumn("_n", F.lit(-1))
    )
    return both.groupBy(*names).agg(F.sum("_n").alias("_n")).where("_n != 0").select(*names)


def _ingest_dates(rows: "DataFrame") -> set[date]:
    """The ingest dates among some rows."""
    return {row[0] for row in rows.select("ingest_date").distinct().collect()}
