"""The synthetic customers of `stedi sample`: who they are, and what they send on which day.

Everything about a customer, or about a customer's session on a day, is computed from (seed, number,
day): nothing is kept from one customer or day to the next, so a million of them take no more memory
than a hundred, and a late or repeated reading is simply computed again. All people are made up:
addresses on example.com, phone numbers 555-01xx.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from typing import Any

from stedi_assets.errors import StediError

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_EPOCH = date(1970, 1, 1).toordinal()
_CONSENTING = 0.6
_MAX_CUSTOMERS = 100_000_000
_MAX_READINGS = 1_000_000
# What a customer's next change is; one who already is what the change makes is just updated.
_CHANGES = (
    "withdrawn",
    "granted",
    "updated",
    "device",
    "withdrawn",
    "updated",
    "updated",
    "granted",
)
_FIRST_NAMES = (
    "Ada Amir Bea Chen Dara Eli Fay Gus Hana Ivo Jun Kofi Lena Milo "
    "Nia Omar Pia Quinn Rosa Sam Tess Uma Vik Wren Yara Zoe"
)
_LAST_NAMES = (
    "Abara Blum Castro Dietz Endo Fofana Gill Holm Ito Jansen Khan Lund Mori "
    "Novak Okoye Park Quist Rossi Singh Tran Ueda Vega Wolf Young Zhou"
)
_FIRST, _LAST = _FIRST_NAMES.split(), _LAST_NAMES.split()
_FORCES = [str(i / 100) for i in range(-200, 201)]
_DISTANCES = [str(i) for i in range(5, 300)]
MALFORMED = {
    "customer": (
        '{"customerName":"Cut Off","email":"nobody@example.com","serialNu',
        '{"email":"nobody@example.com","registrationDate":1,"lastUpdateDate":1}',
    ),
    "accelerometer": (
        '{"user":"nobody@example.com","timestamp":"1655550000000","x":0.1,"y":0.2,"z":0.3}',
        '{"user":"nobody@example.com","timestamp":16555',
        '{"user":"nobody@example.com","timestamp":1655550000000,"x":0.1,"y":0.2}',
    ),
    "step_trainer": (
        '{"sensorReadingTime":1655550000000,"serialNumber":"  ","distanceFromObject":100}',
        '{"sensorReadingTime":1655550000000,"serialNumber":"none","distanceFromObject":1.5}',
        "-- device restarted --",
    ),
}


class SampleError(StediError):
    """A sample that cannot be written; nothing was."""


@dataclass(frozen=True)
class SamplePlan:
    """The arguments of a sample, and what follows from them for each customer and day."""

    customers: int
    days: int
    first_date: date
    seed: int
    readings_per_customer: int
    active: float
    changing: float

    def check(self) -> None:
        """SampleError where an argument cannot be."""
        for name in ("customers", "days", "readings_per_customer"):
            if getattr(self, name) < 1:
                raise SampleError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if self.customers > _MAX_CUSTOMERS:
            raise SampleError(f"{self.customers} customers: it must be at most {_MAX_CUSTOMERS:,}.")
        for name in ("active", "changing"):
            if not 0 <= getattr(self, name) <= 1:
                raise SampleError(f"{name} is {getattr(self, name)}: it must be from 0 to 1.")
        if self.readings_per_customer > _MAX_READINGS:
            raise SampleError(f"readings_per_customer must be at most {_MAX_READINGS}.")
        # Registrations go back some months, and a time of 0 or less is no consent.
        if self.first_date.year < 1971 or self.days > (date.max - self.first_date).days:
            raise SampleError(f"{self.days} days from {self.first_date}: not within 1971 to 9999.")

    def date(self, day: int) -> date:
        """The date of a day, counted from 0."""
        return self.first_date + timedelta(days=day)

    def midnight(self, day: int) -> int:
        """The start of a day (UTC), in milliseconds since the epoch."""
        return (self.first_date.toordinal() + day - _EPOCH) * _DAY

    def random(self, number: int, slot: int) -> random.Random:
        """Chance of a customer (slot 0) or of what a customer does on a day (slot day + 1)."""
        return random.Random((self.seed << 64) + (number << 24) + slot)

    # Who joins, changes and is active when is spread evenly by irrational steps rather than drawn:
    # a sample of any size and seed gets its share of each, and a customer's state on any day is a
    # little arithmetic instead of a past to keep.

    def joined(self, number: int) -> int:
        """The day on which a customer's first record lands."""
        share = min(0.5, self.changing * (self.days - 1))
        nth = int(number * share)
        return 1 + nth % (self.days - 1) if int((number + 1) * share) > nth else 0

    def change(self, number: int, day: int) -> str | None:
        """What changes about a customer on a day: withdrawn, granted, updated, device."""
        before = self._changes(number, day - 1)
        if day <= self.joined(number) or self._changes(number, day) == before:
            return None
        target = _CHANGES[(number + before) % len(_CHANGES)]
        if target in ("withdrawn", "granted"):
            had = self.consents(number, day - 1)
            return target if had == (target == "withdrawn") else "updated"
        return target

    def consents(self, number: int, day: int) -> bool:
        """Whether a customer's record of a day, or the last one before, consents."""
        earliest = self._changes(number, self.joined(number))
        for nth in range(self._changes(number, day) - 1, earliest - 1, -1):
            target = _CHANGES[(number + nth) % len(_CHANGES)]
            if target in ("withdrawn", "granted"):
                return target == "granted"
        return self._consents_at_first(number, earliest)

    def _consents_at_first(self, number: int, earliest: int) -> bool:
        """Whoever is to withdraw has consented; whoever is to grant has not."""
        for nth in range(earliest, self._changes(number, self.days - 1)):
            target = _CHANGES[(number + nth) % len(_CHANGES)]
            if target in ("withdrawn", "granted"):
                return target == "withdrawn"
        return (number * 0.4142135623730951) % 1 < _CONSENTING

    def recorded(self, number: int, day: int) -> int:
        """The newest day, up to this one, on which a record of a customer landed."""
        while day > self.joined(number) and self.change(number, day) is None:
            day -= 1
        return day

    def devices(self, number: int, day: int) -> int:
        """How many devices a customer has had before the present one."""
        earliest = self._changes(number, self.joined(number))
        changes = range(earliest, self._changes(number, day))
        return sum(_CHANGES[(number + nth) % len(_CHANGES)] == "device" for nth in changes)

    def _changes(self, number: int, day: int) -> int:
        return int((number * 0.6180339887498949) % 1 + day * self.changing)

    def is_active(self, number: int, day: int) -> bool:
        """Whether a customer has a session on a day."""
        spread = number * 0.7548776662466927 + day * 0.5698402909980532 + self.seed % 1000 * 0.1
        return day >= self.joined(number) and spread % 1 < self.active

    def is_late(self, number: int, day: int) -> bool:
        """Whether the last third of a session lands a day late."""
        return (number * 7 + day * 5) % 23 == 0 and day + 1 < self.days


def _serials(rng: random.Random) -> Iterator[str]:
    while True:
        text = f"{rng.getrandbits(128):032x}"
        yield f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(frozen=True)
class _Person:
    """Who a customer is on a day."""

    name: str
    email: str
    serial: str
    phone: str
    birthday: str
    registered: int


def _person(plan: SamplePlan, number: int, day: int) -> _Person:
    rng = plan.random(number, 0)
    chance = rng.random
    first = _FIRST[int(chance() * len(_FIRST))]
    last = _LAST[int(chance() * len(_LAST))]
    birthday = date(1940 + int(chance() * 65), 1 + int(chance() * 12), 1 + int(chance() * 28))
    joined = plan.joined(number)
    # Records of a day are of its first hours, so that sessions come after them.
    at = int(chance() * 8 * _HOUR) - (0 if joined else int(1 + chance() * 100) * _DAY)
    phone = f"80155501{int(chance() * 100):02}"
    devices = plan.devices(number, day)
    serials = _serials(rng)
    for _ in range(devices):
        next(serials)
    serial = next(serials)
    if number % 100 == 41 and devices == 0:  # a fulfilment defect: the neighbour's number again
        serial = _person(plan, number - 1, 0).serial
    return _Person(
        name=f"{first} {last}",
        email=f"{first}.{last}.{number}@example.com",
        serial=serial,
        phone=phone,
        birthday=birthday.isoformat(),
        registered=plan.midnight(joined) + at,
    )


def customer_line(plan: SamplePlan, number: int, day: int) -> str:
    """The record of a customer that lands on a day."""
    person = _person(plan, number, day)
    chance = plan.random(number, day + 1).random
    updated = person.registered
    updates = day > plan.joined(number)
    if updates:
        updated = plan.midnight(day) + int(chance() * 8 * _HOUR)
    elif number % 10 == 6:  # agreed at noon, with some of the first day's sessions over
        updated = plan.midnight(day) + 12 * _HOUR
    record: dict[str, Any] = {
        "customerName": person.name,
        "email": person.email,
        "phone": f"80255501{int(chance() * 100):02}" if updates else person.phone,
        "birthDay": person.birthday,
        "serialNumber": person.serial,
        "registrationDate": person.registered,
        "lastUpdateDate": updated,
    }
    if plan.consents(number, day):
        record["shareWithResearchAsOfDate"] = _agreed(plan, number, day, updated)
    elif number % 3:  # "no" is 0, null or nothing at all
        record["shareWithResearchAsOfDate"] = 0 if number % 3 == 1 else None
    if number % 2:
        record["shareWithPublicAsOfDate"] = person.registered
    if number % 5 < 2:
        record["shareWithFriendsAsOfDate"] = person.registered
    return json.dumps(record, separators=(",", ":"))


def _agreed(plan: SamplePlan, number: int, day: int, updated: int) -> int:
    """Since when a customer consents: a mere update of the record leaves it as it was."""
    if plan.change(number, day) in ("updated", "device"):
        before = plan.recorded(number, day - 1)
        line = json.loads(customer_line(plan, number, before))
        return int(line["shareWithResearchAsOfDate"])
    return updated


@dataclass(frozen=True)
class Session:
    """The lines of a customer's session, in the order of their times."""

    phone: list[str]
    steps: list[str]

    def parted(self, late: bool, number: int) -> tuple["Session", "Session"]:
        """What lands on its day, and what a day late; of an even number only the phone is late."""
        phone = len(self.phone) - (len(self.phone) // 3 if late else 0)
        steps = len(self.steps) - (len(self.steps) // 3 if late and number % 2 else 0)
        return (
            Session(self.phone[:phone], self.steps[:steps]),
            Session(self.phone[phone:], self.steps[steps:]),
        )


def session_of(plan: SamplePlan, number: int, day: int) -> Session:
    """Three phone readings at the moment of a step; at every fifth step a millisecond later."""
    person = _person(plan, number, day)
    rng = plan.random(number, day + 1)
    chance, readings = rng.random, plan.readings_per_customer
    count = -(-readings // 3)
    gap = min(4000, 7_000_000 // count)  # a session begun by ten at night ends on its day
    start = plan.midnight(day) + 8 * _HOUR + int(chance() * 14 * _HOUR)
    times = list(accumulate((2 + int(chance() * gap) for _ in range(count - 1)), initial=start))
    moments = [at + (i % 5 == 4) for i, at in enumerate(times) for _ in range(3)]
    x, y, z = (rng.choices(_FORCES, k=readings) for _ in range(3))
    user = person.email.lower() if number % 10 == 3 else person.email
    head = f'{{"user":"{user}","{"timeStamp" if number % 20 == 5 else "timestamp"}":'
    tail = f',"serialNumber":"{person.serial}","distanceFromObject":'
    return Session(
        [
            f'{head}{at},"x":{a},"y":{b},"z":{c}}}'
            for at, a, b, c in zip(moments, x, y, z, strict=False)
        ],
        [
            f'{{"sensorReadingTime":{at}{tail}{far}}}'
            for at, far in zip(times, rng.choices(_DISTANCES, k=count), strict=True)
        ],
    )
