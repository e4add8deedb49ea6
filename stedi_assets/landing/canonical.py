"""Which lines are canonical records, as an engine's expressions: the fast path of the reader.

A canonical record is one flat, well-formed record alone on its line that every JSON parser reads
alike: known fields only, each at most once, all required ones there, no escapes, no nulls. Any
other line needs the exact parser (`record_parser.py`).
"""

import functools
import operator
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from stedi_assets.spark.dialect import doubles_as_text
from stedi_assets.tables.schemas import Column, Entity

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn

_WHITE = r"[ \t]*"
_STRING = '"[^"\\\\\\x00-\\x1f\ufeff\ufffd]*"'
_NOT_BLANK = '"[^"\\\\\\x00-\\x20\ufeff\ufffd][^"\\\\\\x00-\\x1f\ufeff\ufffd]*"'
# Of ASCII alone: Java passes over it in half the time.
_ASCII = r'"[!#-\[\]-~][ !#-\[\]-~]*"'
_INTEGER = "(?:0|-?[1-9][0-9]{0,17})"
# Widened: with a zero fraction too, of so few digits that 53 bits hold it.
_WIDE_INTEGER = r"(?:-?[1-9][0-9]{0,14}\.0{1,20}|0\.0{1,20}|0|-?[1-9][0-9]{0,17})"
_NUMBER = r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,2})?"


def _field_pattern(column: Column, required: bool, widened: bool = False) -> str:
    value = {
        "bigint": _WIDE_INTEGER if widened else _INTEGER,
        "double": _NUMBER,
        "string": _NOT_BLANK if required else _STRING,
    }
    return f'"{column.name}":{_WHITE}{value[column.type]}'


def is_in_the_usual_order(line: "SparkColumn", entity: Entity) -> "SparkColumn":
    """Whether a line is a canonical record by one regular expression: ASCII, all fields, in order.

    It implies `is_canonical`, costs half as much, and holds for what producers of readings write.
    Entities with optional fields have few records: they are left to the other.
    """
    if any(column.name not in entity.required for column in entity.fields):
        return F.lit(False)
    fields = f"{_WHITE},{_WHITE}".join(_field_pattern(column, True) for column in entity.fields)
    pattern = rf"^{_WHITE}\{{{_WHITE}{fields}{_WHITE}\}}{_WHITE}$"
    return line.rlike(pattern.replace(_NOT_BLANK, _ASCII))


def is_canonical(line: "SparkColumn", entity: Entity, widened: bool = False) -> "SparkColumn":
    """Whether a line is a canonical record.

    widened: integers may have a zero fraction and a comma may follow, as `as_json` takes out.
    Strings hold no quotes, so `":` occurs once for every field, a quoted name only as a name.
    """
    known = "|".join(_field_pattern(c, c.name in entity.required, widened) for c in entity.fields)
    one_more = rf"(?:{_WHITE},{_WHITE}(?:{known}))*"
    end = rf"(?:,{_WHITE})?" if widened else ""
    shape = rf"^{_WHITE}\{{{_WHITE}(?:{known}){one_more}{_WHITE}\}}{_WHITE}{end}$"
    names = {c.name: line.contains(f'"{c.name}":') for c in entity.fields}
    fields = F.length(line) - F.length(F.replace(line, F.lit('":'), F.lit('"')))
    distinct = sum((F.when(present, 1).otherwise(0) for present in names.values()), F.lit(0))
    required = [names[name] for name in sorted(entity.required)]
    return functools.reduce(operator.and_, required, line.rlike(shape) & (fields == distinct))


def as_json(line: "SparkColumn", entity: Entity) -> "SparkColumn":
    """A canonical record, widened, as plain JSON whose doubles are quoted.

    Doubles are quoted because Sail's from_json rounds some wrongly in the last digit.
    """
    integers = "|".join(c.name for c in entity.fields if c.type == "bigint")
    doubles = [c.name for c in entity.fields if c.type == "double"]
    whole = F.regexp_replace(line, rf'("(?:{integers})":[ \t]*-?[0-9]+)\.0+', "$1")
    return doubles_as_text(F.regexp_replace(whole, r"\}[ \t]*,?[ \t]*$", "}"), doubles)
