"""Sets of ingest dates and intervals of time, and the SQL for them."""

from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta

MAX_DAYS = 31
_RANGES_SHOWN = 3

TimeInterval = tuple[int, int]  # first and last moment, both included, ms since the epoch
DateRange = tuple[date, date]  # first and last, both included


def contiguous_ranges(days: Iterable[date], max_days: int = MAX_DAYS) -> list[DateRange]:
    """Dates as ranges of consecutive ones, none longer than `max_days`."""
    ranges: list[DateRange] = []
    for day in sorted(set(days)):
        if ranges and day - ranges[-1][1] == timedelta(1) and (day - ranges[-1][0]).days < max_days:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def days_between(first: date, last: date) -> list[date]:
    """Every date from the first to the last, both included."""
    return [first + timedelta(n) for n in range((last - first).days + 1)]


def on_days(days: Collection[date], column: str = "ingest_date") -> str:
    """SQL for the rows of some dates: a list, since an engine's stack ends at some hundred ORs."""
    listed = ", ".join(f"DATE'{day}'" for day in sorted(days))
    return f"{column} IN ({listed})" if days else "false"


def any_of(terms: Sequence[str]) -> str:
    """SQL that is true where one of some terms is, in halves: an engine's stack ends at some
    hundred ORs in a row."""
    if len(terms) < 2:
        return terms[0] if terms else "false"
    half = len(terms) // 2
    return f"({any_of(terms[:half])} OR {any_of(terms[half:])})"


def merged(intervals: Iterable[TimeInterval]) -> list[TimeInterval]:
    """Intervals in order, those that overlap or follow at once as one."""
    result: list[TimeInterval] = []
    for first, last in sorted(intervals):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def overlap(left: Iterable[TimeInterval], right: Collection[TimeInterval]) -> bool:
    """Whether any interval of one side shares a moment with one of the other."""
    return any(a <= d and c <= b for a, b in left for c, d in right)


def described(days: Collection[date]) -> str:
    """Dates for a person: a few ranges, and how many more."""
    ranges = contiguous_ranges(days, max_days=100_000)
    words = [f"{a}" if a == b else f"{a} to {b}" for a, b in ranges[:_RANGES_SHOWN]]
    rest = len(days) - sum((b - a).days + 1 for a, b in ranges[:_RANGES_SHOWN])
    return ", ".join(words) + (f" and {rest} more dates" if rest else "")
