"""`stedi sample`: synthetic customers, steps and phone readings in the landing layout.

Everything about a customer, or about a customer's session on a day, is worked out afresh from
(seed, number, day): nothing is kept from one customer or day to the next, so a million of them
take no more memory than a hundred, and a late or repeated reading is simply worked out again.
All people are made up: addresses on example.com, phone numbers 555-01xx.
"""

import gzip
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

from stedi_assets.errors import StediError

ENTITIES = ("customer", "accelerometer", "step_trainer")
OBJECT_RECORDS = 10_000

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_EPOCH = date(1970, 1, 1).toordinal()
_CONSENTING = 0.6
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
_MALFORMED = {
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
class _Plan:
    """What was asked for."""

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
        for name in ("active", "changing"):
            if not 0 <= getattr(self, name) <= 1:
                raise SampleError(f"{name} is {getattr(self, name)}: it must be from 0 to 1.")
        if self.readings_per_customer > _MAX_READINGS:
            raise SampleError(f"readings_per_customer must be at most {_MAX_READINGS}.")
        # Registrations go back some months, and a time of 0 or less is no consent.
        if self.first_date.year < 1971 or self.days > (date.max - self.first_date).days:
            raise SampleError(f"{self.days} days from {self.first_date}: not within 1971 to 9999.")

    def date(self, day: int) -> date:
        return self.first_date + timedelta(days=day)

    def midnight(self, day: int) -> int:
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


def _person(plan: _Plan, number: int, day: int) -> _Person:
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


def _customer_line(plan: _Plan, number: int, day: int) -> str:
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


def _agreed(plan: _Plan, number: int, day: int, updated: int) -> int:
    """Since when a customer consents: a mere update of the record leaves it as it was."""
    if plan.change(number, day) in ("updated", "device"):
        before = plan.recorded(number, day - 1)
        line = json.loads(_customer_line(plan, number, before))
        return int(line["shareWithResearchAsOfDate"])
    return updated


@dataclass(frozen=True)
class _Session:
    """The lines of a customer's session, in the order of their times."""

    phone: list[str]
    steps: list[str]

    def parted(self, late: bool, number: int) -> tuple["_Session", "_Session"]:
        """What lands on its day, and what a day late; of an even number only the phone is late."""
        phone = len(self.phone) - (len(self.phone) // 3 if late else 0)
        steps = len(self.steps) - (len(self.steps) // 3 if late and number % 2 else 0)
        return (
            _Session(self.phone[:phone], self.steps[:steps]),
            _Session(self.phone[phone:], self.steps[steps:]),
        )


def _session(plan: _Plan, number: int, day: int) -> _Session:
    """Three phone readings at the moment of a step; at every fifth step a moment beside it."""
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
    return _Session(
        [
            f'{head}{at},"x":{a},"y":{b},"z":{c}}}'
            for at, a, b, c in zip(moments, x, y, z, strict=False)
        ],
        [
            f'{{"sensorReadingTime":{at}{tail}{far}}}'
            for at, far in zip(times, rng.choices(_DISTANCES, k=count), strict=True)
        ],
    )


@dataclass
class _Objects:
    """Objects of an entity and day, of a bounded size, written one after another."""

    folder: Path
    day: int
    stem: str
    counts: Counter[str]
    written: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, lines: list[str], *, repeats: int = 0) -> None:
        """Lines to write, `repeats` of them delivered before."""
        self.lines += lines
        self.counts["repeats"] += repeats
        while len(self.lines) >= OBJECT_RECORDS:
            self._write(self.lines[:OBJECT_RECORDS])
            del self.lines[:OBJECT_RECORDS]

    def close(self) -> None:
        """Write what is left."""
        if self.lines:
            self._write(self.lines)

    def _write(self, lines: list[str]) -> None:
        late = self.stem == "late"
        if late:
            self.counts["late"] += len(lines)
        elif len(lines) >= 100:  # fewer, and one malformed would be a suspicious share of them
            texts = _MALFORMED[self.stem]
            lines.insert(60, texts[(self.day + self.written) % len(texts)])
            self.counts["malformed"] += 1
        self.counts["records"] += len(lines)
        self.counts["objects"] += 1
        first = self.day == self.written == 0
        end = "\r\n" if first and self.stem == "accelerometer" else "\n"
        body = (end.join(_glued(lines)) + end).encode()
        self._put(body, zipped=first and self.stem == "step_trainer")

    def _put(self, body: bytes, zipped: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.stem}-{self.written:04}.json{'.gz' if zipped else ''}"
        self.written += 1
        with path.open("wb") as file:
            if zipped:
                # Neither time nor name in its header: the same bytes whenever it is written.
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                    packed.write(body)
            else:
                file.write(body)


def _glued(lines: list[str]) -> list[str]:
    """Every now and then two records on a line, with nothing between them."""
    for at in reversed(range(7, len(lines) - 1, 50)):
        lines[at : at + 2] = [lines[at] + lines[at + 1]]
    return lines


class _Day:
    """Writes everything that lands on a day."""

    def __init__(self, plan: _Plan, folder: Path, day: int) -> None:
        self.plan, self.day = plan, day
        self.counts: dict[str, Counter[str]] = {entity: Counter() for entity in ENTITIES}
        self.changes: Counter[str] = Counter()
        self.objects = {
            (entity, stem): _Objects(
                folder / entity / f"ingest_date={plan.date(day)}", day, stem, self.counts[entity]
            )
            for entity in ENTITIES
            for stem in (entity, "late")
        }

    def close(self) -> None:
        for objects in self.objects.values():
            objects.close()

    def customer(self, number: int) -> None:
        """What lands of a customer on this day."""
        self._record(number)
        if self.plan.is_active(number, self.day):
            self._today(number)
        if self.day and self.plan.is_active(number, self.day - 1):
            self._yesterday(number)

    def _record(self, number: int) -> None:
        plan, day, joined = self.plan, self.day, self.plan.joined(number)
        objects = self.objects["customer", "customer"]
        what = "new" if day == joined else plan.change(number, day)
        if what:
            self.changes["updated" if what == "device" else what] += 1
            line, twice = _customer_line(plan, number, day), number % 50 == 9
            objects.add([line] * (1 + twice), repeats=int(twice))
        if day == joined + 1 and number % 50 == 19:
            objects.add([_customer_line(plan, number, joined)], repeats=1)

    def _today(self, number: int) -> None:
        late = self.plan.is_late(number, self.day)
        session, _ = _session(self.plan, number, self.day).parted(late, number)
        self._readings(session)
        if (number + self.day) % 13 == 0:
            self._readings(_Session(session.phone[-1:], session.steps[-1:]), repeated=True)

    def _yesterday(self, number: int) -> None:
        late, again = self.plan.is_late(number, self.day - 1), (number * 3 + self.day) % 37 == 2
        if not late and not again:
            return
        session, rest = _session(self.plan, number, self.day - 1).parted(late, number)
        if late:
            self.objects["accelerometer", "late"].add(rest.phone)
            self.objects["step_trainer", "late"].add(rest.steps)
        if again:
            self._readings(_Session(session.phone[:3], session.steps[:1]), repeated=True)

    def _readings(self, session: _Session, repeated: bool = False) -> None:
        for entity, lines in (("accelerometer", session.phone), ("step_trainer", session.steps)):
            self.objects[entity, entity].add(lines, repeats=len(lines) if repeated else 0)


_COUNTED = ("records", "malformed", "repeats", "late", "objects")


def write_sample(
    folder: Path,
    *,
    customers: int = 200,
    days: int = 3,
    first_date: date = date(2022, 6, 18),
    seed: int = 0,
    readings_per_customer: int = 30,
    active: float = 0.5,
    changing: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write synthetic data in the landing layout; what is in it stands in its `sample.json`.

    `active` is the share of customers with a session on a day, of `readings_per_customer` phone
    readings and a third as many steps; `changing` is the share whose record changes on a day
    after the first, and about as many are new on it. The same arguments give the same bytes.
    SampleError, and nothing written, where an argument is wrong or the folder is not empty.
    """
    plan = _Plan(customers, days, first_date, seed, readings_per_customer, active, changing)
    plan.check()
    target = folder.resolve()
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise SampleError(f"{folder} is there and not an empty folder: name a new one.")
        target.parent.mkdir(parents=True, exist_ok=True)
        # A folder within the temporary one: that one is private, what is renamed must not be.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as unready:
            made = Path(unready) / target.name
            made.mkdir()
            counts = _write(plan, made, progress or (lambda _done, _all: None))
            text = json.dumps(counts, indent=2) + "\n"
            (made / "sample.json").write_text(text, encoding="utf-8")
            made.rename(target)
    except OSError as error:
        raise SampleError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return counts


def _write(plan: _Plan, folder: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    entities: dict[str, dict[str, Any]] = {entity: {} for entity in ENTITIES}
    changes: dict[str, Any] = {}
    for day in range(plan.days):
        landing = _Day(plan, folder, day)
        for number in range(plan.customers):
            landing.customer(number)
            if number % 1000 == 999:
                progress(day * plan.customers + number + 1, plan.days * plan.customers)
        landing.close()
        progress((day + 1) * plan.customers, plan.days * plan.customers)
        name = plan.date(day).isoformat()
        for entity, counts in landing.counts.items():
            entities[entity][name] = {what: counts[what] for what in _COUNTED}
        kinds = ("new", "withdrawn", "granted", "updated")
        changes[name] = {what: landing.changes[what] for what in kinds}
    return {
        "arguments": asdict(plan) | {"first_date": plan.first_date.isoformat()},
        "entities": entities,
        "customers": changes,
        "total": _total(plan, entities, changes),
    }


def _total(
    plan: _Plan, entities: dict[str, dict[str, Any]], changes: dict[str, Any]
) -> dict[str, int]:
    total: Counter[str] = Counter()
    for entity, dates in entities.items():
        total[entity] = sum(counts["records"] for counts in dates.values())
        for counts in dates.values():
            total.update({what: counts[what] for what in _COUNTED})
    for counts in changes.values():
        total.update({what: n for what, n in counts.items() if what != "new"})
    last = plan.days - 1
    total["customers"] = plan.customers
    total["consenting"] = sum(plan.consents(number, last) for number in range(plan.customers))
    total["devices_of_two"] = sum(
        plan.devices(number, last) == plan.devices(number - 1, last) == 0
        for number in range(41, plan.customers, 100)
    )
    return dict(total)
