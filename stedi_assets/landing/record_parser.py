"""The records of landed text, exactly by the contract: the slow path for lines that look odd.

Standard library only and no import of the project: the module travels by value to the
workers of a Spark cluster (`landed.py` sends it there), where the project is not installed.
"""

import json
import math
import re
from typing import Any

WHITE = " \t\r\n"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class _Number(str):
    """A JSON number, as its source text."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _decoder() -> json.JSONDecoder:
    """Made anew for every line: a decoder cannot be sent to a worker."""
    return json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_refuse_constant)


class _WrongType(Exception):
    """A field is not of its type."""


def _as_text(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A lone surrogate is legal in JSON and has no UTF-8: it becomes U+FFFD.
        return _LONE_SURROGATE.sub("\ufffd", value)
    raise _WrongType


def _as_integer(value: Any) -> int:
    if not isinstance(value, _Number) or not re.fullmatch("-?[0-9]{1,20}", value):
        raise _WrongType
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise _WrongType
    return number


def _as_number(value: Any) -> str:
    """A number as the text of the double that it is."""
    if not isinstance(value, _Number) or not math.isfinite(float(value)):
        raise _WrongType
    return repr(float(value) + 0.0)  # -0 is 0


_AS = {"string": _as_text, "bigint": _as_integer, "double": _as_number}


def fields_of(
    record: Any, types: dict[str, str], required: list[str], aliases: dict[str, str]
) -> dict[str, Any] | None:
    """The fields of a parsed record by name, or None where it is malformed."""
    if not isinstance(record, dict):
        return None
    for old, name in aliases.items():
        if old in record and name not in record:
            record[name] = record[old]
    try:
        fields = {
            name: _AS[kind](record[name])
            for name, kind in types.items()
            if record.get(name) is not None
        }
    except _WrongType:
        return None
    missing = any(str(fields.get(name, "")).strip(WHITE) == "" for name in required)
    return None if missing else fields


def pieces_of(line: str) -> list[tuple[str, dict[str, Any] | None]]:
    """The pieces of a line: raw text and parsed object, or None for a malformed rest."""
    found: list[tuple[str, dict[str, Any] | None]] = []
    at, decoder = 0, _decoder()
    while True:
        while at < len(line) and line[at] in WHITE:
            at += 1
        if at == len(line):
            return found
        end = at
        if line[at] == "{":
            try:
                record, end = decoder.raw_decode(line, at)
            except (ValueError, RecursionError):
                end = at
        if end == at:
            return [*found, (line[at:].rstrip(WHITE), None)]
        found.append((line[at:end], record))
        at = end


def records_of(
    line: str, types: dict[str, str], required: list[str], aliases: dict[str, str]
) -> list[dict[str, Any]]:
    """The records of a line: fields by name, or `_corrupt_record` with the raw text."""
    found = []
    for raw, record in pieces_of(line):
        fields = fields_of(record, types, required, aliases)
        found.append({"_corrupt_record": raw} if fields is None else fields)
    return found
