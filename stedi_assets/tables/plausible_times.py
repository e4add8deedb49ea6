"""Times that cannot be milliseconds since the epoch, or that lie in the future.

A withdrawal dated in seconds is older than any consent: it would be ignored for ever.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

# Landing table -> its columns that are times, ms since the epoch.
TIME_COLUMNS = {
    "customer_landing": (
        "registrationDate",
        "lastUpdateDate",
        "shareWithResearchAsOfDate",
        "shareWithPublicAsOfDate",
        "shareWithFriendsAsOfDate",
    ),
    "accelerometer_landing": ("timestamp",),
    "step_trainer_landing": ("sensorReadingTime",),
}
# In which 0 means that something was not agreed to.
_ZERO_IS_NO = {
    "shareWithResearchAsOfDate",
    "shareWithPublicAsOfDate",
    "shareWithFriendsAsOfDate",
}
# Ms since the epoch of 2000-01-01; nothing of this system is older. The same moment in seconds,
# microseconds and nanoseconds, and any later one of this century, lie in these ranges.
_FIRST = 946_684_800_000
_UNITS = {
    "seconds": (_FIRST // 1000, 5_000_000_000),
    "microseconds": (_FIRST * 1000, 5_000_000_000_000_000),
    "nanoseconds": (_FIRST * 1_000_000, (1 << 63) - 1),
}
# Clocks of phones and devices may run a little fast.
TOLERANCE = timedelta(days=1)
KINDS = (*_UNITS, "future", "too early")


def implausible_time(column: str, now: datetime) -> "Column":
    """What is wrong with a time, one of KINDS; null where it may be right, or is not there.

    now: with a time zone; what lies more than TOLERANCE after it lies in the future.
    """
    value, latest = F.col(column), int((now + TOLERANCE).timestamp() * 1000)
    kind = F.when(value.isNull(), None)
    if column in _ZERO_IS_NO:
        kind = kind.when(value == 0, None)
    for unit, (first, last) in _UNITS.items():
        kind = kind.when(value.between(first, last), unit)
    return kind.when(value > latest, "future").when(value < _FIRST, "too early")


def implausible_times(landing: "DataFrame", table: str, now: datetime) -> "DataFrame":
    """One row: for each time column of a landing table and each of KINDS how many rows have it.

    Columns are named `<column>: <kind>`. table: one of TIME_COLUMNS. now: see `implausible_time`.
    """
    counts = [
        F.count(F.when(implausible_time(column, now) == kind, 1)).alias(f"{column}: {kind}")
        for column in TIME_COLUMNS[table]
        for kind in KINDS
    ]
    return landing.agg(*counts)
