"""Where Sail and Apache Spark compute differently, and the one expression that both agree on.

Each difference has a test in `test_engine_differences.py` that runs on whichever engine is set.
Two are met by never asking the engine: text that is not plainly a record goes through
`landing/record_parser.py` (read.json and from_json differ on it; see `landing/reader.py`), and a
table is created by delta-rs before its first write (Sail's replaceWhere does not create one).
"""

import re
import unicodedata
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from stedi_assets.settings import load_settings

if TYPE_CHECKING:
    from pyspark.sql import Column

# What kind of UDF ours are follows from `useArrow`, it says. (A filter for the moment of their
# making would be another thread's as well.)
warnings.filterwarnings("ignore", "Cannot infer the eval type", UserWarning)

_LOST_RACE = re.compile(
    r"conflict|concurrent|already exists|transaction failed|commit transaction|precondition",
    re.IGNORECASE,
)


def is_lost_race(error: BaseException) -> bool:
    """Whether a write failed because another commit won: the engines word it differently."""
    return _LOST_RACE.search(str(error)) is not None


def as_number(condition: "Column") -> "Column":
    """A condition to order a window by, false or null first: Sail plans none by a boolean."""
    return F.when(condition, 1).otherwise(0)


def without_negative_zero(column: str) -> "Column":
    """A double in which -0 is 0: engines differ on whether the two are equal in a group."""
    return F.when(F.abs(column) == 0, F.lit(0.0)).otherwise(F.col(column))


def doubles_as_text(record: "Column", names: list[str]) -> "Column":
    """A flat JSON record with some numbers in quotes, for from_json to read as text and cast.

    Sail's from_json rounds some doubles wrongly in the last digit; its cast does not.
    """
    if not names:
        return record
    pattern = rf'("(?:{"|".join(names)})":[ \t]*)([-+.0-9eE]+)'
    return F.regexp_replace(record, pattern, '$1"$2"')


def composed(text: "Column") -> "Column":
    """A text in Unicode's NFC, which ASCII always is: nothing but other text pays for it.

    Apache Spark has ICU in its JVM, and would send every row to Python for a UDF; Sail runs a
    UDF in this process, for just the rows that need it.
    """
    if load_settings().spark != "embedded":
        compose = [F.lit("com.ibm.icu.text.Normalizer"), F.lit("compose"), text, F.lit(False)]
        nfc = F.reflect(*compose)
    else:
        nfc = _nfc()(text)
    is_composed = text.isNull() | (F.octet_length(text) == F.length(text))
    return F.when(is_composed, text).otherwise(nfc)


def _nfc() -> "Callable[[Column], Column]":
    def compose(text: str | None) -> str | None:
        return None if text is None else unicodedata.normalize("NFC", text)

    return F.udf(compose, "string")
