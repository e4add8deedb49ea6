"""The records of landed text, exactly by the contract: the slow path for lines that need it.

Standard library only and no import of the project: the module travels by value to the
workers of a Spark cluster (`reader.py` sends it there), where the project is not installed.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

WHITE = " \t\r\n"
# Levels of objects and arrays in one another; what is nested deeper is not read.
MAX_DEPTH = 500
_WHITE_SPACE = re.compile(r"[ \t\r\n]*")
_LINE_END = re.compile("\r\n|\r|\n")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"(-?[0-9]{1,20})(\.0+)?")

Piece = tuple[str, dict[str, Any] | None]  # raw text, and the parsed object where it is one


class TooLongError(Exception):
    """A record is longer than the limit."""


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
    """An integer of 64 bits; one written with a zero fraction, where 53 bits hold it exactly."""
    written = _INTEGER.fullmatch(value) if isinstance(value, _Number) else None
    if written is None:
        raise _WrongType
    number = int(written[1])
    fits = abs(number) <= 2**53 if written[2] else -(2**63) <= number < 2**63
    if not fits:
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


def _is_too_deep(raw: str) -> bool:
    """Whether the text of an object nests deeper than MAX_DEPTH."""
    if raw.count("{") + raw.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(raw):
        if token[0] in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token[0] in "}]":
            depth -= 1
    return False


def _complete_objects(text: str, after_object: bool) -> tuple[list[Piece], int]:
    """The complete JSON objects at the start of a text, and where the last of them ends.

    A lone comma may stand between two of them; `after_object`: also before the first.
    """
    pieces: list[Piece] = []
    end, decoder = 0, _decoder()
    while True:
        at = _white_space_end(text, end)
        if (pieces or after_object) and text.startswith(",", at):
            at = _white_space_end(text, at + 1)
        if not text.startswith("{", at):
            return pieces, end
        try:
            record, stop = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return pieces, end
        if _is_too_deep(text[at:stop]):
            return pieces, end
        pieces.append((text[at:stop], record))
        end = stop


def _white_space_end(text: str, start: int) -> int:
    match = _WHITE_SPACE.match(text, start)
    return match.end() if match else start


def _malformed(rest: str, after_object: bool) -> list[Piece]:
    """The rest of a line as one malformed piece; none where nothing is left but a comma."""
    raw = rest.strip(WHITE)
    return [] if raw == "" or (raw == "," and after_object) else [(raw, None)]


def pieces_of(line: str) -> list[Piece]:
    """The pieces of a line: raw text and parsed object, or None for a malformed rest."""
    pieces, end = _complete_objects(line, False)
    return pieces + _malformed(line[end:], bool(pieces))


def pieces_of_text(chunks: Iterable[str], most: int) -> Iterator[Piece]:
    """The pieces of a text that comes in chunks, holding no more than a chunk and a record.

    most: bytes of the longest record, or malformed rest of a line; TooLongError at a longer one.
    """
    rest, after_object = "", False  # of the line whose end has not come yet
    for chunk in chunks:
        first, *lines = _LINE_END.split(chunk)
        rest += first
        if lines:
            yield from _checked(_pieces_of_rest(rest, after_object), most)
            for line in lines[:-1]:
                yield from _checked(pieces_of(line), most)
            rest, after_object = lines[-1], False
        pieces, end = _complete_objects(rest, after_object)
        yield from _checked(pieces, most)
        rest, after_object = rest[end:], after_object or bool(pieces)
        if not rest.strip(WHITE):
            rest = ""
        _check(rest, most)
    yield from _checked(_pieces_of_rest(rest, after_object), most)


def _pieces_of_rest(rest: str, after_object: bool) -> list[Piece]:
    pieces, end = _complete_objects(rest, after_object)
    return pieces + _malformed(rest[end:], after_object or bool(pieces))


def _checked(pieces: list[Piece], most: int) -> list[Piece]:
    for raw, _ in pieces:
        _check(raw, most)
    return pieces


def _check(raw: str, most: int) -> None:
    if len(raw) * 4 > most and len(raw.encode()) > most:
        raise TooLongError(f"a record longer than {most} bytes")


def records_of(
    line: str, types: dict[str, str], required: list[str], aliases: dict[str, str]
) -> list[dict[str, Any]]:
    """The records of a line: fields by name, or `_corrupt_record` with the raw text."""
    return [record_of(*piece, types, required, aliases) for piece in pieces_of(line)]


def record_of(
    raw: str,
    parsed: Any,
    types: dict[str, str],
    required: list[str],
    aliases: dict[str, str],
) -> dict[str, Any]:
    """The record of a piece: fields by name, or `_corrupt_record` with the raw text."""
    fields = fields_of(parsed, types, required, aliases)
    return {"_corrupt_record": raw} if fields is None else fields
