"""`stedi consent` and `stedi forget`: what the lake holds about one person, and its end."""

import gzip
import hashlib
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from stedi_assets import records
from stedi_assets.erasure import erase_versions
from stedi_assets.io_manager import DeltaIOManager, telling_no_data
from stedi_assets.lake import Lake
from stedi_assets.landed import UnreadableError, landed_objects, landed_text
from stedi_assets.rules import (
    current_records,
    normalized_email,
    normalized_serial_number,
    well_formed,
)
from stedi_assets.schemas import ENTITIES, TABLES, Entity
from stedi_assets.summaries import drop_summaries

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


UNREADABLE = "unreadable object "


def normalized(email: str) -> str:
    """An email as the tables store it."""
    return email.strip(records.WHITE).lower()


@dataclass(frozen=True)
class Person:
    """Someone by what landed records know them by: an email, and devices of theirs alone."""

    email: str
    devices: frozenset[str]
    subject_id: str
    # Devices that others' records name too: their readings are not this person's alone.
    shared: frozenset[str]

    @property
    def pattern(self) -> str:
        """A regular expression for the email in raw text, JSON's escapes among it.

        Not where it is the end or the beginning of somebody else's.
        """
        # Without lookaround, which not every engine has.
        before = r"(?:^|[^a-z0-9._%+-]|\\[nrtbf]|\\u[0-9a-f]{4})"
        after = r"(?:$|[^a-z0-9.-]|\.(?:$|[^a-z0-9]))"
        return f"(?i){before}{''.join(_in_text(c) for c in self.email)}{after}"


def _in_text(character: str) -> str:
    """A character as itself or escaped, in either case."""
    cases = {character, character.lower(), character.upper()}
    escapes = [re.sub("(....)", r"\\\\u\1", c.encode("utf-16-be").hex()) for c in sorted(cases)]
    return f"(?:{'|'.join([*map(re.escape, sorted(cases)), *escapes])})"


def find(io: DeltaIOManager, email: str) -> Person:
    """The person of an email: with the devices that their records name and nobody else's do."""
    known = normalized(email)
    named = (
        well_formed(io.read(TABLES["customer_landing"]))
        .select(
            normalized_email("email").alias("email"),
            normalized_serial_number().alias("serialNumber"),
        )
        .distinct()
    )
    mine = named.where(F.col("email") == known).select("serialNumber")
    theirs = {row[0] for row in mine.collect()}
    others = named.where(
        (F.col("email") != known) & F.col("serialNumber").isin(sorted(theirs) or [""])
    )
    shared = {row[0] for row in others.select("serialNumber").distinct().collect()}
    salted = (io.lake.settings.salt() + known).encode()
    return Person(
        known, frozenset(theirs - shared), hashlib.sha256(salted).hexdigest(), frozenset(shared)
    )


def _rows(io: DeltaIOManager, name: str, person: Person) -> "DataFrame | None":
    """A person's rows of a table; None where the table is not there."""
    if io.lake.log(name) is None:
        return None
    return io.read(TABLES[name]).where(_is_of(name, person))


def _is_of(name: str, person: Person) -> "Column":
    if name == "machine_learning_curated":
        return F.col("subject_id") == person.subject_id
    if name.startswith("step_trainer"):
        theirs = normalized_serial_number().isin(sorted(person.devices) or [""])
    else:
        theirs = normalized_email("user" if "accelerometer" in name else "email") == person.email
    theirs = F.coalesce(theirs, F.lit(False))
    if not name.endswith("_landing"):
        return theirs
    corrupt = F.coalesce(F.col("_corrupt_record"), F.lit(""))
    return theirs | corrupt.rlike(person.pattern)


@telling_no_data("Looking for a person")
def holdings(io: DeltaIOManager, email: str) -> dict[str, Any]:
    """What the lake holds about a person and on what consent; nothing that tells who they are."""
    person = find(io, email)
    current = (
        current_records(io.read(TABLES["customer_landing"]))
        .where(F.col("email") == person.email)
        .select("shareWithResearchAsOfDate", "lastUpdateDate", "ingest_date")
        .collect()
    )
    rows = {name: _rows(io, name, person) for name in TABLES}
    return {
        "subject_id": person.subject_id,
        "known": bool(current),
        "consents": bool(current and (current[0][0] or 0) > 0),
        "shareWithResearchAsOfDate": current[0][0] if current else None,
        "lastUpdateDate": current[0][1] if current else None,
        "record_landed_on": str(current[0][2]) if current else None,
        "rows": {name: 0 if found is None else found.count() for name, found in rows.items()},
    }


@telling_no_data("Forgetting a person")
def forget(io: DeltaIOManager, email: str, command: str) -> dict[str, Any]:
    """Take a person out of every landed object; what was taken, as the audit row that is kept.

    The landing tables and all others follow with the next catch-up.
    """
    person = find(io, email)
    taken: dict[str, int] = {}
    unreadable: list[str] = []
    for entity in ENTITIES.values():
        name = f"{entity.name}_landing"
        rows = _rows(io, name, person)
        if rows is None:
            continue
        days: list[date] = sorted(r[0] for r in rows.select("ingest_date").distinct().collect())
        taken[name] = sum(_forget_day(io.lake, entity, day, person) for day in days)
        unreadable += _unreadable(io.read(TABLES[name]))
    drop_summaries(io.lake)
    audit = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "subject_id": person.subject_id,
        "rows": taken,
        "devices_shared_with_others": len(person.shared),
        "unreadable_objects": unreadable,
    }
    io.lake.put_json(f"_stedi/audit/{audit['when']}-{uuid.uuid4().hex[:8]}.json", audit)
    return audit


def _unreadable(landing: "DataFrame") -> list[str]:
    """The objects of all days in which nobody can be looked for."""
    texts = landing.where(F.col("_corrupt_record").startswith(UNREADABLE))
    said = [row[0] for row in texts.select("_corrupt_record").collect()]
    return sorted(text.removeprefix(UNREADABLE).rpartition(": ")[0] for text in said)


def _forget_day(lake: Lake, entity: Entity, day: date, person: Person) -> int:
    taken = 0
    for landed in landed_objects(lake, entity.name, day):
        try:
            text = landed_text(lake, landed.key)
        except UnreadableError:
            continue  # `_unreadable` tells
        kept, count = without(text, entity, person)
        if count:
            data = kept.encode()
            zipped = landed.key.lower().endswith(".gz")
            lake.put(landed.key, gzip.compress(data) if zipped else data)
            erase_versions(lake, landed.key, timedelta(0))
        taken += count
    return taken


def without(text: str, entity: Entity, person: Person) -> tuple[str, int]:
    """Landed text without a person's records, and how many those were."""
    kept: list[str] = []
    taken = 0
    for line in re.split("\r\n|\r|\n", text.removeprefix("\ufeff")):
        for raw, fields in records.pieces_of(line):
            theirs = _record_is_of(entity, raw, fields, person)
            taken += theirs
            if not theirs:
                kept.append(raw)
    return "".join(f"{raw}\n" for raw in kept), taken


def _record_is_of(entity: Entity, raw: str, fields: dict[str, Any] | None, person: Person) -> bool:
    if re.search(person.pattern, raw):
        return True
    value = str((fields or {}).get("serialNumber", "")).strip(records.WHITE)
    if entity.name == "step_trainer":
        return value in person.devices
    who = (fields or {}).get("user" if entity.name == "accelerometer" else "email", "")
    return normalized(str(who)) == person.email
