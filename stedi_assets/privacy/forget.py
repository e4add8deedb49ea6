"""`stedi consent` and `stedi forget`: what the lake holds about one person, and its end."""

import gzip
import hashlib
import json
import re
import uuid
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from stedi_assets.defs.io_managers import DeltaIOManager
from stedi_assets.lakehouse.object_store import GoneError, Lake
from stedi_assets.landing import record_parser as records
from stedi_assets.landing.reader import UnreadableError, landed_text
from stedi_assets.privacy.vacuum import erase_versions
from stedi_assets.spark.errors import redact_engine_errors
from stedi_assets.tables.rules import (
    current_records,
    normalized_email,
    normalized_serial_number,
    well_formed,
)
from stedi_assets.tables.schemas import CORRUPT_RECORD, ENTITIES, TABLES, Entity, Table

if TYPE_CHECKING:
    from pyspark.sql import Column


THREADS = 8


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

    @cached_property
    def pattern(self) -> str:
        """A regular expression for the email in the text of a well-formed record."""
        return _as_word(self.email)

    @cached_property
    def pattern_of_malformed(self) -> str:
        """A regular expression for the email or a device's number in malformed text."""
        return _as_word(self.email, *sorted(self.devices))

    def may_be_in(self, text: str) -> bool:
        """Whether a text could name the person: quick, and False is certain."""
        folded = text.casefold()
        names = (self.email, *self.devices)
        return "\\" in text or any(name.casefold() in folded for name in names)


def _as_word(*names: str) -> str:
    """A regular expression for names in raw text, in any case, JSON's escapes among it.

    Not where one is the end or the beginning of a longer name.
    """
    # Without lookaround, which not every engine has.
    before = r"(?:^|[^a-z0-9._%+-]|\\[nrtbf]|\\u[0-9a-f]{4})"
    after = r"(?:$|[^a-z0-9.-]|\.(?:$|[^a-z0-9]))"
    spelled = "|".join("".join(map(_in_text, name)) for name in names)
    return f"(?i){before}(?:{spelled}){after}"


def _in_text(character: str) -> str:
    """A character as itself or escaped, in either case."""
    cases = {character, character.lower(), character.upper()}
    escapes = [re.sub("(....)", r"\\\\u\1", c.encode("utf-16-be").hex()) for c in sorted(cases)]
    short = {json.dumps(character, ensure_ascii=False)[1:-1], character.replace("/", "\\/")}
    return f"(?:{'|'.join([*map(re.escape, sorted(cases | short)), *escapes])})"


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


def _who(columns: Collection[str]) -> str:
    """Which of some columns says whose a record is."""
    return next(name for name in ("email", "user", "serialNumber") if name in columns)


def _is_of(entity: Entity, raw: str, parsed: Any, person: Person) -> bool:
    """Whether a landed record, as text and as parsed JSON, is of a person.

    A well-formed one when its field of whom is theirs or the email stands anywhere in it, a
    malformed one when the email or the number of a device of theirs stands in it.
    """
    types = {column.name: column.type for column in entity.fields}
    fields = records.fields_of(parsed, types, sorted(entity.required), entity.aliases)
    if fields is None:
        return bool(re.search(person.pattern_of_malformed, raw))
    who = _who(fields)
    theirs = (
        fields[who].strip(records.WHITE) in person.devices
        if who == "serialNumber"
        else normalized(fields[who]) == person.email
    )
    return theirs or bool(re.search(person.pattern, raw))


def _row_is_of(table: Table, person: Person) -> "Column":
    """The same of a row: `_is_of`, as far as the table holds what the record said."""
    if "subject_id" in table.column_names:
        return F.col("subject_id") == person.subject_id
    who = _who(table.column_names)
    theirs = (
        normalized_serial_number().isin(sorted(person.devices) or [""])
        if who == "serialNumber"
        else normalized_email(who) == person.email
    )
    texts = [c.name for c in table.columns if c.type == "string" and c is not CORRUPT_RECORD]
    text = F.concat_ws("\n", *texts)
    # The regular expression is slow, and few rows contain the email.
    found = F.lower(text).contains(person.email) & text.rlike(person.pattern)
    if CORRUPT_RECORD in table.columns:
        corrupt = F.coalesce(F.col(CORRUPT_RECORD.name), F.lit(""))
        found = found | corrupt.rlike(person.pattern_of_malformed)
    return F.coalesce(theirs, F.lit(False)) | found


def rows_of(io: DeltaIOManager, person: Person) -> dict[str, int]:
    """How many rows of a person every table holds now."""
    io.lake.look_again()
    found = dict.fromkeys(TABLES, 0)
    for name, table in TABLES.items():
        if io.lake.log(table) is not None:
            found[name] = io.read(table).where(_row_is_of(table, person)).count()
    return found


@redact_engine_errors("Looking for a person")
def holdings(io: DeltaIOManager, email: str) -> dict[str, Any]:
    """What the lake holds about a person and on what consent; nothing that tells who they are."""
    person = find(io, email)
    current = (
        current_records(io.read(TABLES["customer_landing"]))
        .where(F.col("email") == person.email)
        .select("shareWithResearchAsOfDate", "lastUpdateDate", "ingest_date")
        .collect()
    )
    return {
        "subject_id": person.subject_id,
        "known": bool(current),
        "consents": bool(current and (current[0][0] or 0) > 0),
        "shareWithResearchAsOfDate": current[0][0] if current else None,
        "lastUpdateDate": current[0][1] if current else None,
        "record_landed_on": str(current[0][2]) if current else None,
        "rows": rows_of(io, person),
    }


@redact_engine_errors("Forgetting a person")
def forget(io: DeltaIOManager, person: Person, command: str) -> dict[str, Any]:
    """Take a person out of every landed object; what was taken, as the audit row that is kept.

    The landing tables and all others follow with the next catch-up.
    """
    taken: dict[str, int] = {}
    unreadable: set[str] = set()
    # Customers last: cut short and done again, it still knows the person's devices.
    for entity in reversed(ENTITIES.values()):
        taken[f"{entity.name}_landing"] = _take_out(io.lake, entity, person, unreadable)
    audit = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "subject_id": person.subject_id,
        "rows": taken,
        "devices_shared_with_others": len(person.shared),
        "unreadable_objects": sorted(unreadable),
    }
    io.lake.put_json(f"_stedi/audit/{audit['when']}-{uuid.uuid4().hex[:8]}.json", audit)
    return audit


def _take_out(lake: Lake, entity: Entity, person: Person, unreadable: set[str]) -> int:
    """Rewrite what lies in an entity's folder without a person; how many records that were.

    Every object there is read, also what has not landed, and older versions, which are deleted
    where they hold the person. unreadable: takes the objects that cannot be searched.
    """
    folder = f"landing/{entity.name}/"

    def without_person(key: str, version: str | None = None) -> tuple[str, int]:
        try:
            return without(landed_text(lake, key, version), entity, person)
        except UnreadableError:
            unreadable.add(key)
        except GoneError:
            pass  # deleted meanwhile
        return "", 0

    def rewrite(key: str) -> int:
        kept, taken = without_person(key)
        if taken:
            data = kept.encode()
            lake.put(key, gzip.compress(data) if key.lower().endswith(".gz") else data)
        return taken

    keys = [one["Key"] for one in lake.objects(folder) if not one["Key"].endswith("/")]
    with ThreadPoolExecutor(THREADS) as pool:
        taken = sum(pool.map(rewrite, keys))
    erase_versions(lake, folder, timedelta(0), lambda *one: without_person(*one)[1] > 0)
    return taken


def without(text: str, entity: Entity, person: Person) -> tuple[str, int]:
    """Landed text without a person's records, and how many those were."""
    if not person.may_be_in(text):
        return text, 0
    kept: list[str] = []
    taken = 0
    for line in re.split("\r\n|\r|\n", text.removeprefix("\ufeff")):
        for raw, parsed in records.pieces_of(line):
            theirs = _is_of(entity, raw, parsed, person)
            taken += theirs
            if not theirs:
                kept.append(raw)
    return "".join(f"{raw}\n" for raw in kept), taken
