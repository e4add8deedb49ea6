"""`make bench-history`: what one more day, and one withdrawal, cost after a long history.

    python -m bench.history [--dates 2,30,365] [--customers 10000] [--repeats 3] [--active 0.05]
        [--readings 30] [--out FILE] [--update PAGE]

For each number of ingest dates a lake is filled with that many days, and brought up to date. Then,
one after another, each as a whole `stedi catch-up` in a process of its own: new days, withdrawals
of people with readings on every day, and of people with readings on two days. What lands anew is
the same whatever the history: the same people do the same, only the date differs. Every result is
checked: the new day's pairs are all there, nobody who withdrew is left.

On a day 1% of the customers change: most are updated (another phone number, the same consent), a
few are new. The share `active` has a session of `readings` phone readings and a third as many
steps, on that day. At the end of the history there are as many customers as asked for.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from bench import report
from bench.lake import BenchLake, Figures, Traffic, bench_lake
from bench.run import say, traffic_cells
from stedi_assets.tables.schemas import TABLES

FIRST = date(2022, 6, 18)
DAY_MS = 86_400_000
# One more day costs, in seconds and in bytes read, at most this many times what it costs after
# the shortest history.
TARGET = 1.2


@dataclass(frozen=True)
class History:
    """So many days of so many customers, and the days after it; days are counted from its end.

    Day -1 is the last of the history and day 0 the first new one, so that what lands on day 0
    is the same after any history. Numbers of customers count from the oldest.
    """

    dates: int
    customers: int
    repeats: int
    active: float
    readings: int

    @property
    def joining(self) -> int:
        """How many customers are new on a day."""
        return max(1, self.customers // 2000)

    def people(self, day: int) -> int:
        """How many customers there are on a day."""
        return self.customers + self.joining * (day + 1)

    def joined(self, number: int) -> int:
        """The day on which a customer's first record lands."""
        return max(-self.dates, (number - self.customers) // self.joining)

    def everyday(self, number: int) -> bool:
        """Whether a customer has a session on every day: one for each withdrawal."""
        return number < self.repeats

    def rare(self, number: int) -> bool:
        """Whether a customer has sessions on the first two days only: one for each withdrawal."""
        return self.repeats <= number < 2 * self.repeats

    def consents(self, number: int) -> bool:
        """Six of ten do, and everybody who is to withdraw."""
        return number < 2 * self.repeats or number % 10 < 6

    def active_on(self, day: int) -> Iterator[int]:
        """The customers with a session on a day: in turn, and those who are new."""
        every, people = round(1 / self.active), self.people(day)
        for number in range(people):
            if self.rare(number):
                if day + self.dates < 2:
                    yield number
            elif (
                self.everyday(number)
                or (number + day) % every == 0
                or number >= people - self.joining
            ):
                yield number

    def date(self, day: int) -> date:
        """A day's ingest date."""
        return FIRST + timedelta(days=self.dates + day)

    def midnight(self, day: int) -> int:
        """A day's first millisecond."""
        return (self.date(day) - date(1970, 1, 1)).days * DAY_MS

    def pairs(self, day: int) -> int:
        """How many rows machine_learning_curated has of a new day."""
        return self.readings * sum(self.consents(number) for number in self.active_on(day))

    def customer_lines(self, day: int) -> Iterator[str]:
        """The records that land on a day: of those who are new, and of those who changed."""
        people = self.people(day)
        new = range(0 if day == -self.dates else people - self.joining, people)
        every = self.customers // (self.customers // 100 - self.joining)
        for number in [*range(day % every, new.start, every), *new]:
            yield self.record(number, day, self.consents(number))

    def record(self, number: int, day: int, consents: bool) -> str:
        """A customer's record as it lands on a day."""
        registered = self.midnight(self.joined(number))
        consent = f',"shareWithResearchAsOfDate":{registered}' if consents else ""
        return (
            f'{{"customerName":"Person {number:06}","email":"{email(number)}",'
            f'"phone":"5550{(number + day) % 10_000:04}","birthDay":"1980-01-01",'
            f'"serialNumber":"{serial(number)}","registrationDate":{registered},'
            f'"lastUpdateDate":{self.midnight(day)}{consent}}}'
        )

    def step_times(self, number: int, day: int) -> range:
        """The milliseconds of a session's steps."""
        start = self.midnight(day) + 28_800_000 + number * 7919 % 40_000_000
        return range(start, start + 997 * (self.readings // 3), 997)

    def accelerometer_lines(self, day: int) -> Iterator[str]:
        """Three phone readings at the moment of every step."""
        for number in self.active_on(day):
            for moment in self.step_times(number, day):
                x, y = (moment % 401 - 200) / 100, (moment % 307 - 150) / 100
                for z in (-1.0, 0.5, 1.0):
                    yield (
                        f'{{"user":"{email(number)}","timestamp":{moment},'
                        f'"x":{x:.2f},"y":{y:.2f},"z":{z}}}'
                    )

    def step_trainer_lines(self, day: int) -> Iterator[str]:
        """The steps."""
        for number in self.active_on(day):
            for moment in self.step_times(number, day):
                yield (
                    f'{{"sensorReadingTime":{moment},"serialNumber":"{serial(number)}",'
                    f'"distanceFromObject":{100 + moment % 200}}}'
                )

    def write(self, folder: Path, day: int) -> None:
        """Write what lands on a day, an object for each entity."""
        for entity, lines in (
            ("customer", self.customer_lines(day)),
            ("accelerometer", self.accelerometer_lines(day)),
            ("step_trainer", self.step_trainer_lines(day)),
        ):
            self.write_object(folder, entity, day, lines)

    def write_withdrawal(self, folder: Path, number: int, day: int) -> None:
        """Write what lands on a day on which one customer withdraws, and nothing else happens."""
        self.write_object(folder, "customer", day, [self.record(number, day, consents=False)])

    def write_object(self, folder: Path, entity: str, day: int, lines: Iterable[str]) -> None:
        """Write one object of an entity and a day."""
        place = folder / entity / f"ingest_date={self.date(day)}"
        place.mkdir(parents=True)
        with (place / f"{entity}-{self.date(day)}.json").open("w") as file:
            file.writelines(f"{line}\n" for line in lines)


def email(number: int) -> str:
    """A customer's email."""
    return f"person.{number:06}@example.com"


def serial(number: int) -> str:
    """The number of a customer's device."""
    return f"serial-{number:06}"


# ------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Event:
    """What one catch-up took, and how many partitions (or whole tables) it wrote anew."""

    figures: Figures
    rewritten: int


def measure_history(history: History) -> dict[str, list[Event]]:
    """The events after a history, by their kind."""
    events: dict[str, list[Event]] = {}
    with tempfile.TemporaryDirectory() as made, bench_lake(Path(made) / "lake") as lake:
        folder = Path(made) / "data"
        for day in range(-history.dates, 0):
            history.write(folder, day)
        lake.stedi("land", str(folder))
        shutil.rmtree(folder)
        say(f"{history.dates} dates have landed")
        built = lake.stedi("catch-up")
        say(f"{history.dates} dates are in the tables: {built.seconds:.0f} s")
        check_day(lake, history, -1)
        day = 0
        for _ in range(history.repeats):
            history.write(folder, day)
            event = catch_up(lake, folder)
            events.setdefault("one more day", []).append(event)
            check_day(lake, history, day)
            day += 1
        for kind, first in (
            ("withdrawal, readings on every day", 0),
            ("withdrawal, readings on two days", history.repeats),
        ):
            for number in range(first, first + history.repeats):
                check_person(lake, number, present=True)
                history.write_withdrawal(folder, number, day)
                events.setdefault(kind, []).append(catch_up(lake, folder))
                check_person(lake, number, present=False)
                day += 1
    for kind, of_kind in events.items():
        say(f"{history.dates} dates, {kind}: {[round(e.figures.seconds, 1) for e in of_kind]} s")
    return events


def catch_up(lake: BenchLake, folder: Path) -> Event:
    """Land a folder, and bring the tables up to date as one measured process."""
    lake.stedi("land", str(folder))
    shutil.rmtree(folder)
    before = partitions(lake)
    figures = lake.stedi("catch-up")
    after = partitions(lake)
    places = before.keys() | after.keys()
    return Event(figures, sum(before.get(place) != after.get(place) for place in places))


def partitions(lake: BenchLake) -> dict[tuple[str, object], frozenset[str]]:
    """The data files of every partition of every table past the landing zone."""
    found: dict[tuple[str, object], set[str]] = {}
    for table in TABLES.values():
        if table.zone != "landing":
            actions = lake.delta(table).get_add_actions(flatten=True)
            for path in [str(path) for path in actions.column("path").to_pylist()]:
                found.setdefault((table.name, path.rpartition("/")[0]), set()).add(path)
    return {place: frozenset(files) for place, files in found.items()}


def check_day(lake: BenchLake, history: History, day: int) -> None:
    """SystemExit where a day's pairs are not all there."""
    found = count(lake, "machine_learning_curated", f"ingest_date = DATE'{history.date(day)}'")
    if found != history.pairs(day):
        raise SystemExit(f"{history.date(day)} has {found} pairs, not {history.pairs(day)}")


def check_person(lake: BenchLake, number: int, present: bool) -> None:
    """SystemExit where a person is, or is not, in the tables against expectation."""
    for table, condition in (
        ("accelerometer_trusted", f"\"user\" = '{email(number)}'"),
        ("step_trainer_trusted", f"serialNumber = '{serial(number)}'"),
        ("customer_trusted", f"email = '{email(number)}'"),
    ):
        found = count(lake, table, condition)
        if (found > 0) != present:
            raise SystemExit(f"{table} has {found} rows of customer {number}")


def count(lake: BenchLake, name: str, condition: str) -> int:
    """How many rows of a table meet a condition."""
    db = duckdb.connect()
    db.register("rows", lake.delta(TABLES[name]).to_pyarrow_dataset())
    ((found,),) = db.execute(f"SELECT count(*) FROM rows WHERE {condition}").fetchall()
    return int(found)


# --------------------------------------------------------------------------------- telling


def tell(results: dict[int, dict[str, list[Event]]]) -> str:
    """A row for every kind of event after every history: medians, ratios to the shortest."""
    shortest = results[min(results)]
    rows = []
    for kind in shortest:
        base_seconds, base_traffic = median(shortest[kind])
        for dates, events in results.items():
            seconds, traffic = median(events[kind])
            rows.append(
                [
                    kind,
                    dates,
                    f"{seconds:.1f}",
                    f"{seconds / base_seconds:.2f}",
                    *traffic_cells(traffic),
                    f"{traffic.read / base_traffic.read:.2f}",
                    round(statistics.median(event.rewritten for event in events[kind])),
                ]
            )
    header = ["event", "ingest dates before", "seconds", "ratio", "MB read", "MB written"]
    return report.table([*header, "requests", "ratio of MB read", "partitions rewritten"], rows)


def median(events: list[Event]) -> tuple[float, Traffic]:
    """The median of the seconds, and of each of the counters."""
    counters = zip(*(astuple(event.figures.traffic) for event in events), strict=True)
    return (
        statistics.median(event.figures.seconds for event in events),
        Traffic(*(round(statistics.median(values)) for values in counters)),
    )


def main() -> None:
    """Parse the arguments, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dates", default="2,30,365")
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3, help="of which the median counts")
    parser.add_argument("--active", type=float, default=0.05, help="share with a session on a day")
    parser.add_argument("--readings", type=int, default=30, help="phone readings of a session")
    parser.add_argument("--out", type=Path, help="a file for the table")
    parser.add_argument("--update", type=Path, help="a page with a marked place for the table")
    arguments = parser.parse_args()
    if arguments.customers < 1000:
        parser.error("--customers: at least 1000, or 1% of them is nobody")

    def history(dates: int) -> History:
        return History(
            dates, arguments.customers, arguments.repeats, arguments.active, arguments.readings
        )

    started = report.where_and_when()
    lengths = [int(dates) for dates in arguments.dates.split(",")]
    results = {dates: measure_history(history(dates)) for dates in lengths}
    day = history(lengths[0])
    sessions = sum(1 for _ in day.active_on(0))
    text = (
        f"{started}. {arguments.customers:,} customers; on a day"
        f" {sum(1 for _ in day.customer_lines(0))} customer records, {day.joining} of them of new"
        f" customers, and {sessions} sessions of {arguments.readings} phone readings and"
        f" {arguments.readings // 3} steps; the median of {arguments.repeats}. Target for one more"
        f" day: ratios of at most {TARGET}.\n\n{tell(results)}"
    )
    report.publish(text, "bench of history", arguments.out, arguments.update)


if __name__ == "__main__":
    main()
