"""Why landed records are malformed, without quoting their values.

What belongs here: words for people, and no personal value among them. What does not: what a
well-formed record is (`record_parser.py`, which decides here too).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stedi_assets.landing.object_text import REFUSED
from stedi_assets.landing.record_parser import fields_of, pieces_of
from stedi_assets.tables.schemas import CORRUPT_RECORD, ENTITIES, Entity

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SAMPLE = 1000  # malformed rows that are looked at
_LONGEST = 200  # characters of an example
_MOST = 0.5  # above this share of malformed rows a warning is due
_KINDS = {"bigint": "an integer", "double": "a finite number", "string": "text"}
# The contract's reasons (docs/tables.md); what else stands there somebody may have landed.
_REASONS = (
    r"not gzip|gzip cut short|gzip damaged|not UTF-8|(?:a record )?longer than \d+ bytes"
    rf"|S3 refuses it \((?:{'|'.join(map(re.escape, sorted(REFUSED)))})\)"
)
_UNREADABLE = re.compile(rf"unreadable object .+: ({_REASONS})", re.DOTALL)


@dataclass(frozen=True)
class Diagnosis:
    """The most frequent reason among malformed rows, and the shape of one that has it."""

    reason: str
    share: float  # of the rows that were looked at, 0 to 1
    shape: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.share:.0%} of the malformed rows), as in {self.shape}"


def diagnose(landing: "DataFrame", entity: Entity) -> Diagnosis | None:
    """Why most of a landing table's malformed rows are so; None where none is malformed.

    `_SAMPLE` of them are looked at. The answer holds no value of a record.
    """
    corrupt = CORRUPT_RECORD.name
    rows = landing.where(f"{corrupt} IS NOT NULL").select(corrupt).limit(_SAMPLE).collect()
    reasons = Counter(reason_of(row[0], entity) for row in rows)
    if not reasons:
        return None
    (reason, times), *_ = reasons.most_common(1)
    example = next(row[0] for row in rows if reason_of(row[0], entity) == reason)
    return Diagnosis(reason, times / len(rows), shape_of(example, entity))


def reason_of(raw: str, entity: Entity) -> str:
    """Why the raw text of a malformed record is none, without a value of it."""
    unreadable = _unreadable(raw, entity)
    if unreadable is not None:
        return f"an object cannot be read: {unreadable}"
    parsed = _parsed(raw)
    if parsed is None:
        return _reason_of_text(raw)
    for column in entity.fields:
        required = [column.name] if column.name in entity.required else []
        types = {column.name: column.type}
        if fields_of(dict(parsed), types, required, entity.aliases) is None:
            aliases = {name: old for old, name in entity.aliases.items()}
            value = parsed.get(column.name, parsed.get(aliases.get(column.name, "")))
            if value is None:
                return f"{column.name} is missing"
            is_blank = isinstance(value, str) and not value.strip()
            return f"{column.name} is {'blank' if is_blank else f'not {_KINDS[column.type]}'}"
    return "it is well-formed by now: materialize its date again"


def _unreadable(raw: str, entity: Entity) -> str | None:
    """Why an object cannot be read, as its row says; None of text that merely begins so."""
    start = f"unreadable object landing/{entity.name}/"
    row = _UNREADABLE.fullmatch(raw) if raw.startswith(start) else None
    return row[1] if row else None


def _parsed(raw: str) -> dict[str, Any] | None:
    """The one JSON object that a text is; None where it is none."""
    pieces = pieces_of(raw)
    return pieces[0][1] if len(pieces) == 1 else None


def _reason_of_text(raw: str) -> str:
    start = raw[:1]
    if start == "[":
        return "records stand in a JSON array, not one after another"
    if start == "]" or start == ",":
        return "text that belongs to a JSON array or list stands between the records"
    if start == "{":
        return "a JSON object is cut short or is not JSON"
    return "it is not a JSON object"


def shape_of(raw: str, entity: Entity) -> str:
    """The shape of a record's text: known names, and kinds of values in the place of values."""
    if _unreadable(raw, entity) is not None:
        return "an unreadable object"
    parsed = _parsed(raw)
    known = {column.name for column in entity.fields} | set(entity.aliases)
    if parsed is not None:
        names = {name: json.dumps(name) if name in known else '"…"' for name in parsed}
        fields = (f"{names[name]}: {_shape_of_value(value)}" for name, value in parsed.items())
        shape = "{" + ", ".join(fields) + "}"
    else:
        # Letters and digits are what tells something; known names are ours.
        words = "|".join(sorted(known, key=len, reverse=True))
        parts = re.split(rf'("(?:{words})")', raw[: 10 * _LONGEST])
        shape = "".join(part if n % 2 else _masked(part) for n, part in enumerate(parts))
    return shape if len(shape) <= _LONGEST else f"{shape[:_LONGEST]}…"


def _masked(text: str) -> str:
    """A text in which runs of letters are `a`, runs of digits `0`, other signs but JSON's `·`."""
    text = re.sub(r"[^\W\d_]+", "a", text)
    text = re.sub(r"\d+", "0", text)
    return re.sub(r"""[^a0\s{}\[\],:;"'.+-]+""", "·", text)


def _shape_of_value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, dict):
        return "{…}"
    if isinstance(value, list):
        return "[…]"
    if type(value) is str:
        return '""' if not value.strip() else '"…"'
    return re.sub(r"\d+", "0", str(value))  # a number, as its source text


def warnings_of(
    rows: Mapping[str, int],
    malformed: Mapping[str, int],
    diagnosis_of: Callable[[Entity], Diagnosis | None],
) -> list[str]:
    """Lines that say which tables are empty, and why most of what landed is malformed.

    rows: of every table by its name, in the tables' order; malformed: those of the landing tables.
    diagnosis_of: `diagnose` over the landing table of an entity, asked only where it is due.
    """
    lines = []
    for name, count in rows.items():
        wrong = malformed.get(name, 0)
        if count == 0:
            lines.append(f"{name} is empty.")
        if wrong > _MOST * count:
            diagnosis = diagnosis_of(ENTITIES[name.removesuffix("_landing")])
            why = f" Most often: {diagnosis}." if diagnosis else ""
            lines.append(f"{wrong} of {count} rows of {name} are malformed.{why}")
    return lines
