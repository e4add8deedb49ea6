"""Membership: the members among the people and devices with readings on each date, as hashes.

It follows from the landing tables alone: it is computed for given data files of theirs, and kept
under a key of these. The hashes identify nobody: they are of sets, and only answer whether a set is
the same.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from stedi_assets.incremental.ledger import Ledger, PartitionKey, files_of, fingerprint
from stedi_assets.incremental.read_rows import Partitions, ReadRows, together
from stedi_assets.incremental.rollups import (
    CURRENT_RECORDS,
    DATES_OF_DEVICES,
    DATES_OF_USERS,
    rolled_up,
)
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.tables import Lakehouse, Logs
from stedi_assets.spark.errors import redact_engine_errors
from stedi_assets.tables.rules import consent, consents, current_records, device_owners, since
from stedi_assets.tables.schemas import LANDING_TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MEMBERSHIP_PATH = "_stedi/membership.json"
_UNSIGNED = 2**64 - 1


@dataclass(frozen=True)
class Membership:
    """For every table and partition: how many people or devices are in, and a hash of them.

    key: of the landing tables' files that it follows from; sound: whether these were as they were
    written.
    """

    key: str
    sets: Mapping[str, Mapping[PartitionKey, tuple[int, str]]]
    sound: bool = True

    def of(self, table: str, key: PartitionKey) -> tuple[int, str]:
        """How many are in a table's partition, and their hash; (0, "") where there are none."""
        return self.sets.get(table, {}).get(key, (0, ""))

    def identity(self, table: str, key: PartitionKey) -> str:
        """The same for the same people or devices in a table's partition."""
        return "{} {}".format(*self.of(table, key))


def membership_key(logs: Logs, consent_scope: str) -> str:
    """What a membership follows from: the landing tables' files, and the scope of consent."""
    sources = [f"{table.name} {files_of(logs[table.name], None)}" for table in LANDING_TABLES]
    return fingerprint([*sources, consent_scope])


def read_membership(lakehouse: Lakehouse, key: str) -> Membership | None:
    """The membership that is kept for a key; None where none, or another one's, is kept."""
    existing = lakehouse.store.get(MEMBERSHIP_PATH)
    if existing is None:
        return None
    try:
        document = parse_json(existing[0])
        sets = {
            table: {
                None if day == "all" else date.fromisoformat(day): (int(count), str(hashed))
                for day, (count, hashed) in days.items()
            }
            for table, days in document["sets"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return Membership(key, sets) if document.get("key") == key else None


def compute_membership(
    lakehouse: Lakehouse, logs: Logs, ledgers: Mapping[str, Ledger], consent_scope: str
) -> tuple[Membership, Partitions]:
    """Compute the membership from the landing tables; also the partitions that were read of them.

    logs, ledgers: of the landing tables; the roll-ups are brought up to date with them. It is sound
    where these were made of files as they were written; whether the partitions' files were, the
    caller has to see by listing them now. StediError where the engine or S3 fails.
    """
    with redact_engine_errors("Computing membership"):
        read = _sets(lakehouse, logs, ledgers, consent_scope)
        rows = read.frame.collect()
    sets: dict[str, dict[PartitionKey, tuple[int, str]]] = {}
    for table, day, people, left, right in rows:
        hashed = f"{left & _UNSIGNED:016x}{right & _UNSIGNED:016x}"
        sets.setdefault(table, {})[day] = (people, hashed)
    key = membership_key(logs, consent_scope)
    return Membership(key, sets, read.sound), read.partitions


def keep_membership(lakehouse: Lakehouse, membership: Membership) -> None:
    """Keep a membership for its key, in the place of the one that was kept."""
    sets = membership.sets
    lakehouse.store.put_json(
        MEMBERSHIP_PATH,
        {
            "key": membership.key,
            "sets": {t: {str(d or "all"): s for d, s in days.items()} for t, days in sets.items()},
        },
    )


def users_with_readings(dates_of_users: "DataFrame", consenting: "DataFrame") -> "DataFrame":
    """The days with readings that count, of consenting people: `user`, `since`, `ingest_date`.

    Who is in it has a row in `accelerometer_trusted`. consenting: as `rules.consent` gives it.
    """
    return (
        dates_of_users.join(consenting, "user", "inner")
        .where("last_time >= since")
        .select("user", "since", "ingest_date")
    )


def _sets(
    lakehouse: Lakehouse, logs: Logs, ledgers: Mapping[str, Ledger], consent_scope: str
) -> ReadRows:
    """One row a table and partition: table, ingest_date, people, and two hashes of who they are."""
    from pyspark.sql import functions as F

    rollups = (CURRENT_RECORDS, DATES_OF_USERS, DATES_OF_DEVICES)
    with ThreadPoolExecutor(len(rollups)) as pool:  # each is a small write or two
        read = list(pool.map(lambda rollup: rolled_up(lakehouse, rollup, logs, ledgers), rollups))
    customers, users, devices = (one.frame for one in read)
    columns = ("email", "serialNumber", "shareWithResearchAsOfDate")
    current = lakehouse.held(current_records(customers).select(*columns), read[0].rows)
    trusted = current.where(consents())
    readings = users_with_readings(users, consent(trusted, consent_scope))
    with_readings = readings.select(F.col("user").alias("email")).distinct()
    curated = trusted.join(with_readings, "email", "left_semi")
    # Each device with those of its claimants who are in, and whether it is theirs alone.
    owners = device_owners(current, curated).select("serialNumber", F.lit(True).alias("sole"))
    claimant = F.concat("email", F.lit(" "), since(consent_scope).cast("string"))
    claims = curated.select("serialNumber", claimant.alias("user"))
    claimed = devices.join(claims.join(owners, "serialNumber", "left"), "serialNumber", "inner")
    nowhere = F.lit(None).cast("date").alias("ingest_date")
    members = {
        "accelerometer_trusted": readings,
        "step_trainer_trusted": claimed.where("sole").select(
            "serialNumber", F.lit("").alias("user"), "ingest_date"
        ),
        "machine_learning_curated": claimed.where("sole").select(
            "serialNumber", "user", "ingest_date"
        ),
        "customers_curated": with_readings.select("email", F.lit("").alias("user"), nowhere),
        # How many customers there are, consenting or not: for metadata only, nothing depends on it.
        "customer_landing": current.select("email", F.lit("").alias("user"), nowhere),
    }
    parts = [_hashed(name, frame) for name, frame in members.items()]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.unionAll(part)
    partitions = together(*(one.partitions for one in read))
    return ReadRows(whole, len(members), partitions, all(one.sound for one in read))


def _hashed(table: str, members: "DataFrame") -> "DataFrame":
    """A set of members (two columns) by ingest date, whatever their order: count and 128 bits."""
    from pyspark.sql import functions as F

    first, second, _ = members.columns
    return (
        members.groupBy("ingest_date")
        .agg(
            F.count("*").alias("people"),
            F.bit_xor(F.xxhash64(F.lit("a"), first, second)).alias("left"),
            F.bit_xor(F.xxhash64(F.lit("b"), first, second)).alias("right"),
        )
        .select(F.lit(table).alias("table"), "ingest_date", "people", "left", "right")
    )
