"""JSON that may be damaged, or be somebody else's: what cannot be parsed is a ValueError."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; ValueError where it is none.

    Python raises a RecursionError where one is nested too deeply, which nobody would catch.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
