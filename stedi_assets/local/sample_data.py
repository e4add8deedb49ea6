"""`stedi sample`: writes synthetic customers, steps and phone readings in the landing layout."""

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from stedi_assets.local.sample_people import (
    MALFORMED,
    SampleError,
    SamplePlan,
    Session,
    customer_line,
    session_of,
)

ENTITIES = ("customer", "accelerometer", "step_trainer")
OBJECT_RECORDS = 10_000


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
            texts = MALFORMED[self.stem]
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

    def __init__(self, plan: SamplePlan, folder: Path, day: int) -> None:
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
            line, twice = customer_line(plan, number, day), number % 50 == 9
            objects.add([line] * (1 + twice), repeats=int(twice))
        if day == joined + 1 and number % 50 == 19:
            objects.add([customer_line(plan, number, joined)], repeats=1)

    def _today(self, number: int) -> None:
        late = self.plan.is_late(number, self.day)
        session, _ = session_of(self.plan, number, self.day).parted(late, number)
        self._readings(session)
        if (number + self.day) % 13 == 0:
            self._readings(Session(session.phone[-1:], session.steps[-1:]), repeated=True)

    def _yesterday(self, number: int) -> None:
        late, again = self.plan.is_late(number, self.day - 1), (number * 3 + self.day) % 37 == 2
        if not late and not again:
            return
        session, rest = session_of(self.plan, number, self.day - 1).parted(late, number)
        if late:
            self.objects["accelerometer", "late"].add(rest.phone)
            self.objects["step_trainer", "late"].add(rest.steps)
        if again:
            self._readings(Session(session.phone[:3], session.steps[:1]), repeated=True)

    def _readings(self, session: Session, repeated: bool = False) -> None:
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
    """Write synthetic data in the landing layout; its `sample.json` lists the contents.

    `active` is the share of customers with a session on a day, of `readings_per_customer` phone
    readings and a third as many steps; `changing` is the share whose record changes on a day
    after the first, and about as many are new on it. The same arguments give the same bytes.
    SampleError, and nothing written, where an argument is wrong or the folder is not empty.
    """
    plan = SamplePlan(customers, days, first_date, seed, readings_per_customer, active, changing)
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


def _write(plan: SamplePlan, folder: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
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
    plan: SamplePlan, entities: dict[str, dict[str, Any]], changes: dict[str, Any]
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
