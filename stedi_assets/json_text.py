"""JSON that may be damaged, or be somebody else's: what cannot be parsed is a ValueError."""

import json
import math
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; ValueError where it is none, or has a number that 64 bits do not hold.

    Half of a character (`\\ud800`) is a question mark. Python raises a RecursionError where JSON is
    nested too deeply, an OverflowError where such a number is converted, and a UnicodeEncodeError
    where such a half is printed or sent: nobody would catch them.
    """
    text = text if isinstance(text, str) else text.decode()
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_real, parse_constant=_real)
        if "\\ud" in text.lower():
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    return value


def _integer(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**63:
        raise ValueError("an integer that 64 bits do not hold")
    return number


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number that 64 bits do not hold")
    return number
