"""Days to stretches of days: one run a stretch."""

from collections.abc import Iterable
from datetime import date, timedelta

MOST_DAYS = 31


def stretches(days: Iterable[date], most: int = MOST_DAYS) -> list[tuple[date, date]]:
    """Runs of consecutive days, first and last both included, none longer than `most` days."""
    found: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if found and day - found[-1][1] == timedelta(1) and (day - found[-1][0]).days < most:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found
