"""JSON that may be damaged, or be somebody else's: what cannot be parsed is a ValueError."""

import json
import math
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; ValueError where it is none, or has a number that 64 bits do not hold.

    Python raises a RecursionError where one is nested too deeply, and an OverflowError where such
    a number is converted: nobody would catch them.
    """
    try:
        return json.loads(text, parse_int=_integer, parse_float=_real, parse_constant=_real)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


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
