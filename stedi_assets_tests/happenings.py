"""What the state machine draws from: small alphabets, what lands, what runs, what goes wrong."""

import os
import signal
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from hypothesis import strategies as st

from bench.s3_proxy import Fault, Request
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.odd_data import ODD_LINES, T0, compact

# The first two and the last two are neighbours, between them lies a gap.
DAYS = [date(2022, 6, 18), date(2022, 6, 19), date(2022, 6, 21), date(2022, 6, 22)]
PEOPLE, DEVICES, MOMENTS = range(3), range(3), range(4)
NAMES = list(TABLES)


def customer(number: int, device: int, share: int | None, updated: int, odd: bool = False) -> str:
    """A person's record."""
    record: dict[str, Any] = {
        "email": f" P{number}@Example.com" if odd else f"p{number}@example.com",
        "serialNumber": f" d{device}" if odd else f"d{device}",
        "registrationDate": T0,
        "lastUpdateDate": updated,
    }
    return compact(record | ({} if share is None else {"shareWithResearchAsOfDate": share}))


def phone(number: int, moment: int, x: float) -> str:
    """A person's phone reading."""
    email = f"p{number}@example.com" if x > 0 else f" P{number}@Example.com"
    return compact({"user": email, "timestamp": T0 + moment, "x": x, "y": 0.25, "z": 0.0})


def step(device: int, moment: int, distance: int) -> str:
    """A device's reading."""
    serial = f"d{device}" if distance else f" d{device}"
    return compact(
        {"sensorReadingTime": T0 + moment, "serialNumber": serial, "distanceFromObject": distance}
    )


LINES = {
    "customer": [
        customer(p, d, share, updated, odd=bool(updated % 2))
        for p in PEOPLE
        for d in DEVICES
        for share in (T0, T0 + 2, 0, None)
        for updated in range(3)
    ],
    "accelerometer": 3 * [phone(p, m, x) for p in PEOPLE for m in MOMENTS for x in (0.5, -1.0)],
    "step_trainer": 3
    * [step(d, m, distance) for d in DEVICES for m in MOMENTS for distance in (1, 0)],
}


def landing_object(entity: str) -> st.SearchStrategy[tuple[str, bytes]]:
    """An object under one of two names a day, so that one is often rewritten."""
    lines = st.lists(st.sampled_from(LINES[entity] + ODD_LINES[entity]), max_size=4)
    return st.builds(
        lambda day, name, found: (
            f"landing/{entity}/ingest_date={day}/{name}",
            "\n".join(found).encode(),
        ),
        st.sampled_from(DAYS),
        st.sampled_from(["one", "two"]),
        lines,
    )


@dataclass(frozen=True)
class Change:
    """A person grants or withdraws, claims or lets go of a device: the newest record lands."""

    person: int
    device: int
    share: int | None
    day: date


CHANGES = st.builds(
    Change,
    st.sampled_from(PEOPLE),
    st.sampled_from(DEVICES),
    st.sampled_from([T0, T0 + 2, None]),
    st.sampled_from(DAYS),
)
LANDED = st.one_of(CHANGES, *(landing_object(entity) for entity in LINES))
# What lands before something runs.
FIRST = st.lists(LANDED, max_size=2)


@dataclass
class Faults:
    """What goes wrong with the requests of one command, by their place among its writes.

    kill: at which write a process is killed, and whether `before` or `after` S3 has done it.
    """

    planned: dict[int, str]
    reads: bool = False
    kill: "tuple[int, str] | None" = None
    process: int = 0
    seen: int = field(default=-1, init=False)

    def __call__(self, request: Request) -> Fault | None:
        if (request.method in ("GET", "HEAD")) != self.reads:
            return None
        self.seen += 1
        if self.kill and self.seen == self.kill[0]:
            os.kill(self.process, signal.SIGKILL)
            return Fault("cut" if self.kill[1] == "before" else "lose")
        kind: Any = self.planned.get(self.seen)
        return Fault(kind, 0.2 if kind == "late" else 0) if kind else None


FAULTS = st.builds(
    Faults,
    st.dictionaries(
        st.integers(0, 60),
        st.sampled_from(["refuse", "cut", "lose", "late", "tear"]),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
SPANS = st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS)).map(sorted)
# What a person or the sensor may start: None is a catch-up, else tables over dates by hand.
BY_HAND = st.tuples(SPANS, st.sets(st.sampled_from(NAMES), min_size=1).map(sorted))
WHOLE = st.tuples(SPANS, st.just(NAMES))
COMMANDS = st.one_of(BY_HAND, WHOLE, st.none())
LOSSES = ["entry", "file", "log entry", "checkpoint", "table", "_stedi", "dagster", "process"]
LOSSES += ["end of a file"]
