"""Whose a landed record is: the one rule by which records are held, counted and taken out.

A well-formed record belongs to the person whose address is in its `email` or `user`, or whose
device's number is its `serialNumber`, compared as a whole. Malformed text belongs to the person
whose address, or device's number, stands in it as a whole token (`address_search.py`).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stedi_assets.escapes import ESCAPES, plain
from stedi_assets.landing import record_parser
from stedi_assets.privacy.address_search import Match, folded, search
from stedi_assets.tables.rules import normalize_email
from stedi_assets.tables.schemas import Entity

# Stands in records of others where they gave a forgotten person's address.
FORGOTTEN = "[forgotten]"
_LINE_END = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, repr=False)
class Person:
    """Someone by what landed records know them by: an email, and devices of theirs alone."""

    email: str
    devices: frozenset[str]
    subject_id: str
    # Devices that others' records name too: their readings are not this person's alone.
    shared: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """What malformed text of theirs holds: the email, or the number of a device."""
        return (self.email, *sorted(self.devices))

    @cached_property
    def _traces(self) -> tuple[str, ...]:
        return (*map(folded, self.names), *ESCAPES)

    def may_be_in(self, folded_text: str) -> bool:
        """Whether a text, folded, could name the person: quick, and False is certain."""
        # Beyond ASCII are other spellings of what ASCII has: a fullwidth @, a zero-width space.
        return not folded_text.isascii() or any(trace in folded_text for trace in self._traces)


def who_column(columns: Iterable[str]) -> str:
    """Which of some columns says whose a record is."""
    present = set(columns)
    return next(name for name in ("email", "user", "serialNumber") if name in present)


@dataclass
class Redaction:
    """What landed text holds of a person.

    text: without them; taken: how many records of theirs it held; mentions: how many records of
    others gave their address in another field, and now do not; uncertain: text that may be of the
    person stays; devices: the numbers of devices in customer records of theirs.
    """

    text: str = ""
    taken: int = 0
    mentions: int = 0
    uncertain: bool = False
    devices: set[str] = field(default_factory=set)

    @property
    def changed(self) -> bool:
        """Whether the text is another than it was."""
        return self.taken > 0 or self.mentions > 0

    def add(self, part: "Redaction") -> None:
        """Count what a part of the text holds."""
        self.taken += part.taken
        self.mentions += part.mentions
        self.uncertain |= part.uncertain
        self.devices |= part.devices


def redact(text: str, entity: Entity, person: Person) -> Redaction:
    """Whole lines of landed text without a person's records; the text itself where it has none."""
    redaction = Redaction(text)
    lower = folded(text)
    if not person.may_be_in(lower):
        return redaction
    kept: list[str] = []
    for line, lower_line in zip(*map(lines_of, (text, lower)), strict=True):
        if not person.may_be_in(lower_line):
            kept.append(line)
            continue
        for raw, parsed in record_parser.pieces_of(line):
            kept += _redacted_record(raw, parsed, entity, person, redaction)
    if redaction.changed:
        redaction.text = "".join(f"{line}\n" for line in kept if line)
    return redaction


def lines_of(text: str) -> list[str]:
    """The lines of landed text."""
    return _LINE_END.split(text)


def owner_of(entity: Entity, parsed: Any) -> str | None:
    """Whose a parsed record is, normalized, as its email, user or number of a device says.

    None where the record is malformed.
    """
    fields = fields_of(entity, parsed)
    if fields is None:
        return None
    who = who_column(fields)
    value: str = fields[who]
    return value.strip(record_parser.WHITE) if who == "serialNumber" else normalize_email(value)


def claim_of(entity: Entity, parsed: Any) -> tuple[str, str] | None:
    """The email and the number of the device in a parsed customer record; None where malformed."""
    fields = fields_of(entity, parsed)
    if fields is None:
        return None
    number: str = fields["serialNumber"]
    return normalize_email(fields["email"]), number.strip(record_parser.WHITE)


def fields_of(entity: Entity, parsed: Any) -> dict[str, Any] | None:
    """The contract's fields of a parsed record; None where it is malformed."""
    types = {column.name: column.type for column in entity.fields}
    record = dict(parsed) if isinstance(parsed, dict) else parsed  # aliases are added to it
    return record_parser.fields_of(record, types, sorted(entity.required), entity.aliases)


def _redacted_record(
    raw: str, parsed: Any, entity: Entity, person: Person, redaction: Redaction
) -> list[str]:
    """The text that stays of a record, as a list of one or none; counts into the redaction."""
    owner = owner_of(entity, parsed)
    if owner is None:
        match = search(raw, person.email, person.devices)
    else:
        ids = person.devices if who_column(c.name for c in entity.fields) == "serialNumber" else ()
        is_theirs = owner == person.email or owner in ids
        match = Match.YES if is_theirs else _spelled_otherwise(owner, person)
    if match is Match.YES:
        redaction.taken += 1
        if entity.name == "customer" and (claim := claim_of(entity, parsed)):
            redaction.devices.add(claim[1])
        return []
    redaction.uncertain |= match is Match.MAYBE
    if owner is None or search(raw, person.email) is Match.NO:
        return [raw]
    return [_without_mentions(raw, parsed, entity, person, redaction)]


def _spelled_otherwise(owner: str, person: Person) -> Match:
    """Whether the owner of somebody else's record may be the person: `mailto:ann@…`, `ann＠…`."""
    found = search(plain(owner), person.email) is Match.YES
    return Match.MAYBE if found or plain(owner) == plain(person.email) else Match.NO


def _without_mentions(
    raw: str, parsed: dict[str, Any], entity: Entity, person: Person, redaction: Redaction
) -> str:
    """A record of somebody else without the person's address; the fields it needs stay."""
    try:
        kept = {
            name: value if name in entity.required else _forgotten(value, person)
            for name, value in parsed.items()
        }
        text, others = _as_json(kept), _as_json(_without_own_address(kept, entity))
    except RecursionError:
        redaction.uncertain = True
        return raw
    redaction.uncertain |= search(others, person.email) is not Match.NO
    # Of a field given twice the parser keeps the last one.
    if kept == parsed and search(raw, person.email) <= search(text, person.email):
        return raw
    redaction.mentions += 1
    return text


def _without_own_address(record: dict[str, Any], entity: Entity) -> dict[str, Any]:
    """A record without the field of whose it is, where that holds one address and no more."""
    who = who_column(column.name for column in entity.fields)
    is_one_address = not re.search(r"[\s,;<>]", str(record[who]).strip())
    return {name: value for name, value in record.items() if name != who or not is_one_address}


def _forgotten(value: Any, person: Person) -> Any:
    """A JSON value, its strings that hold the person's address replaced as a whole."""
    if isinstance(value, dict):
        return {name: _forgotten(item, person) for name, item in value.items()}
    if isinstance(value, list):
        return [_forgotten(item, person) for item in value]
    if isinstance(value, str) and search(value, person.email) is Match.YES:
        return FORGOTTEN
    return value


def _as_json(value: Any) -> str:
    """JSON of what the record parser made, numbers as they were written."""
    if isinstance(value, dict):
        fields = (f"{json.dumps(name)}: {_as_json(item)}" for name, item in value.items())
        return f"{{{', '.join(fields)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_json, value))}]"
    if isinstance(value, str) and type(value) is not str:
        return str(value)
    return json.dumps(value)
