"""What the lake holds about one person (`stedi consent`), by the rule of `whose_record.py`."""

import hashlib
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.privacy.address_search import Match, folded, search
from stedi_assets.privacy.whose_record import Person, who_column
from stedi_assets.spark.errors import redact_engine_errors
from stedi_assets.tables.rules import (
    current_records,
    normalize_email,
    normalized_email,
    normalized_serial_number,
    well_formed,
)
from stedi_assets.tables.schemas import CORRUPT_RECORD, TABLES, Table

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@redact_engine_errors("Looking for a person")
def find(lakehouse: Lakehouse, email: str, devices: frozenset[str] = frozenset()) -> Person:
    """The person of an email, with the devices that their records name and nobody else's do.

    devices: others that their records named. Where no customer landed, a person with these.
    """
    nobody = without_devices(lakehouse, email)
    known, theirs, shared = nobody.email, devices, nobody.shared
    landing = TABLES["customer_landing"]
    lakehouse.refresh([landing])
    if lakehouse.log(landing) is not None:
        named = (
            well_formed(lakehouse.read(landing))
            .select(
                normalized_email("email").alias("email"),
                normalized_serial_number().alias("serialNumber"),
            )
            .distinct()
        )
        theirs |= _numbers(named.where(F.col("email") == known))
        others = (F.col("email") != known) & F.col("serialNumber").isin(sorted(theirs) or [""])
        shared = _numbers(named.where(others))
    return Person(known, theirs - shared, nobody.subject_id, shared)


def without_devices(lakehouse: Lakehouse, email: str) -> Person:
    """The person of an email, as long as no record of theirs is known."""
    known = normalize_email(email)
    salted = (lakehouse.store.settings.salt() + known).encode()
    return Person(known, frozenset(), hashlib.sha256(salted).hexdigest(), frozenset())


def _numbers(named: "DataFrame") -> frozenset[str]:
    return frozenset(row[0] for row in named.select("serialNumber").distinct().collect())


def _malformed_texts(lakehouse: Lakehouse, table: Table, person: Person) -> dict[str, Match]:
    """The malformed texts of a table that are, or may be, the person's."""
    if CORRUPT_RECORD not in table.columns:
        return {}
    text = F.col(CORRUPT_RECORD.name)
    # The engine passes on what could hold a name; which text does is decided in one place.
    likely = text.rlike(r"[\\%&\x00]|[^\x00-\x7f]")
    for name in person.names:
        likely = likely | F.lower(text).contains(folded(name))
    rows = lakehouse.read(table).where(text.isNotNull() & likely).select(text).distinct()
    matches = {
        row[0]: search(row[0], person.email, person.devices) for row in rows.toLocalIterator()
    }
    return {text: match for text, match in matches.items() if match is not Match.NO}


def row_is_theirs(lakehouse: Lakehouse, table: Table, person: Person) -> "Column":
    """Whether a row of a table, as it is now, is the person's."""
    return _is_theirs(table, person, _malformed_texts(lakehouse, table, person))


def _is_theirs(table: Table, person: Person, texts: dict[str, Match]) -> "Column":
    """The same; texts: the table's malformed texts that matter."""
    if "subject_id" in table.column_names:
        theirs = F.col("subject_id") == person.subject_id
    elif who_column(table.column_names) == "serialNumber":
        theirs = normalized_serial_number().isin(sorted(person.devices) or [""])
    else:
        theirs = normalized_email(who_column(table.column_names)) == person.email
    held = F.coalesce(theirs, F.lit(False))
    malformed = [text for text, match in texts.items() if match is Match.YES]
    return held | _is_one_of(malformed) if malformed else held


def rows_of(lakehouse: Lakehouse, person: Person, problems: list[str]) -> dict[str, int]:
    """How many rows of a person every table holds now.

    problems: takes a line for each table that cannot be read, which counts as none.
    """
    return {name: held for name, (held, _) in _held(lakehouse, person, problems).items()}


def _held(lakehouse: Lakehouse, person: Person, problems: list[str]) -> dict[str, tuple[int, int]]:
    """How many rows of every table are the person's, and how many malformed ones may be."""
    lakehouse.refresh(TABLES.values())
    counts = dict.fromkeys(TABLES, (0, 0))
    for name, table in TABLES.items():
        try:
            if lakehouse.log(table) is not None:
                counts[name] = _held_in(lakehouse, table, person)
        except StediError as error:
            problems.append(str(error))
    return counts


@redact_engine_errors("Looking for the rows of a person")
def _held_in(lakehouse: Lakehouse, table: Table, person: Person) -> tuple[int, int]:
    texts = _malformed_texts(lakehouse, table, person)
    unsure = [text for text, match in texts.items() if match is Match.MAYBE]
    rows = lakehouse.read(table)
    held = rows.where(_is_theirs(table, person, texts)).count()
    return held, rows.where(_is_one_of(unsure)).count() if unsure else 0


def _is_one_of(texts: list[str]) -> "Column":
    return F.coalesce(F.col(CORRUPT_RECORD.name).isin(texts), F.lit(False))


@redact_engine_errors("Looking for a person")
def subject_access_report(lakehouse: Lakehouse, email: str) -> dict[str, Any]:
    """What the lake holds about a person and on what consent; nothing that tells who they are.

    known: whether a customer record of theirs landed; rows: how many rows of theirs each table
    holds; malformed_rows_that_may_be_theirs: text that holds the address within a longer token.
    StediError where a table cannot be read.
    """
    lakehouse.refresh(TABLES.values())
    for table in TABLES.values():
        lakehouse.assert_not_lost(table)
    person = find(lakehouse, email)
    landing = TABLES["customer_landing"]
    current = []
    if lakehouse.log(landing) is not None:
        record = current_records(lakehouse.read(landing)).where(F.col("email") == person.email)
        dates = ("shareWithResearchAsOfDate", "lastUpdateDate", "ingest_date")
        current = record.select(*dates).collect()
    problems: list[str] = []
    held = _held(lakehouse, person, problems)
    if problems:
        raise StediError(problems[0])
    return {
        "subject_id": person.subject_id,
        "known": bool(current),
        "consents": bool(current and (current[0][0] or 0) > 0),
        "shareWithResearchAsOfDate": current[0][0] if current else None,
        "lastUpdateDate": current[0][1] if current else None,
        "record_landed_on": str(current[0][2]) if current else None,
        "rows": {name: rows for name, (rows, _) in held.items()},
        "malformed_rows_that_may_be_theirs": sum(unsure for _, unsure in held.values()),
    }
