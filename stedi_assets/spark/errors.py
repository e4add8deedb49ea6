"""What engines say of their failures: in one line, and without what they quote of the data."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from stedi_assets.errors import StediError
from stedi_assets.spark.session import diagnosis

_ENGINES = ("pyspark", "py4j", "grpc")


def is_engine_error(error: BaseException) -> bool:
    """Whether an engine raised it: their classes have nothing in common but where they come from."""
    return any(c.__module__.startswith(_ENGINES) for c in type(error).__mro__)


@contextmanager
def redact_engine_errors(doing: str, engine: str = "embedded") -> Iterator[None]:
    """Around what asks an engine: its errors as one StediError, without what they quote of data."""
    try:
        yield
    except Exception as error:
        if not is_engine_error(error):
            raise
        raise StediError(f"{doing} failed: {redacted_message(error, engine)}") from None


def redacted_message(error: BaseException, engine: str = "embedded") -> str:
    """What is wrong, as far as an engine's message tells it without data."""
    return diagnosis(error, engine) or first_line(str(error))


# How the engines begin what they say of themselves and of storage. Anything else may be a text
# made of rows (`raise_error`).
_OF_THE_ENGINE = re.compile(
    r"(\[(?!USER_RAISED)[A-Z0-9_.]+\]"
    r"|(arrow|cast|delta|delta kernel|execution|external|generic s3|internal|i/?o|object ?store"
    r"|parquet|resources|schema|transport)[a-z ]* (error|exhausted)|failed to|error during)",
    re.IGNORECASE,
)


def first_line(message: str) -> str:
    """The first line of an engine's message, without what it quotes of the data."""
    line = message.strip().splitlines()[0] if message.strip() else "no message"
    if not _OF_THE_ENGINE.match(line):
        return "the engine failed with a message that may hold data, so it is not shown."
    # Engines do not escape what they quote: from the first quotation mark to the last one.
    for mark in "\"'`":
        line = re.sub(f"{mark}.*{mark}|{mark}.*", f"{mark}…{mark}", line)
    return re.sub(r"\S*@\S*", "…", line)[:300]
