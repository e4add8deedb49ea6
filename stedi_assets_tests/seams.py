"""The one place where tests reach into the core: a hook before a write, and kills around commits.

A test says `with seams.kill("commit", "customer_trusted", "after"): lake.catch_up()`. After the
core changes its names, these functions are all that has to follow.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from typing import Any

import pytest

# What a process can be killed around: a table's Delta commit, a partition's ledger entry.
POINTS = ("commit", "entry")


class Killed(BaseException):
    """The process is gone: no handler of an Exception sees it."""


def _places(point: str) -> tuple[Any, str, int]:
    """Where a point is: an object, its attribute, and which argument of a call is the table."""
    from stedi_assets.incremental import pipeline
    from stedi_assets.lakehouse.tables import Lakehouse

    return {
        "write": (pipeline.Pipeline, "write", 1),
        "commit": (Lakehouse, "replace", 1),
        "entry": (pipeline, "record", 1),
    }[point]


def dying_write(write: Callable[..., Any], table: str, day: date) -> Callable[..., Any]:
    """A `Pipeline.write` in which the process dies at a table's date."""

    def dies(self: Any, written: Any, days: Any, *more: Any) -> Any:
        if written.name == table and day in (days or ()):
            raise Killed
        return write(self, written, days, *more)

    return dies


@contextmanager
def kill(point: str, table: str | None, when: str, nth: int = 1) -> Iterator[list[str]]:
    """Within it the nth time that a table (None: any) gets to a point, Killed before or after it.

    Gives a list that then holds the table's name; it stays empty where nothing got there.
    """
    place, name, argument = _places(point)
    original, left, died = getattr(place, name), [nth], []

    def dying(*arguments: Any, **named: Any) -> Any:
        mine = arguments[argument].name
        if table in (None, mine):
            left[0] -= 1
        if left[0] or table not in (None, mine):
            return original(*arguments, **named)
        if when == "after":
            original(*arguments, **named)
        died.append(mine)
        left[0] = -1
        raise Killed(f"{when} the {point} of {mine}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, dying)
        with suppress(Killed):
            yield died


@contextmanager
def before_write(table: str, action: Callable[[], None]) -> Iterator[None]:
    """Within it, something happens once between a table's reading of its inputs and its commit.

    Before the table's lock is taken: others may write the table in it.
    """
    place, name, argument = _places("write")
    original, left = getattr(place, name), [action]

    def acting(*arguments: Any, **named: Any) -> Any:
        if left and arguments[argument].name == table:
            left.pop()()
        return original(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, acting)
        yield
    assert not left, f"{table} was not written"


def erase(lake: Any) -> None:
    """What `stedi erase --now` does, on a test's lake."""
    from stedi_assets.privacy import vacuum

    result = vacuum.erase(lake.pipeline, lake.catch_up_without_new_dates, timedelta(0))
    assert not result.problems, result.problems


def set_clock_ahead(monkeypatch: Any, by: timedelta) -> None:
    """This machine's clock is ahead of S3's, or behind it, from now on."""
    from stedi_assets import settings
    from stedi_assets.lakehouse import object_store

    class OtherClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + by

    for module in (settings, object_store):
        monkeypatch.setattr(module, "datetime", OtherClock)
