"""`make bench-latency`: what commands take when every request to S3 takes 25 ms, as on S3.

    python -m bench.latency [--scenarios published,nothing,day,withdrawal,year] [--latency 25]
        [--where] [--log DIR] [--out FILE] [--update PAGE]

Each event is one command in a process of its own, imports included, behind a loopback proxy that
counts its requests and holds each up; results are checked. The scenarios:

* published: `dagster asset materialize --select '*'` of the published shape's one date; once
  without the latency, once with it;
* nothing: `stedi catch-up` after it, with nothing to do;
* day: 30 dates of `stedi sample` with 2,000 customers are there; day 31 lands (1% of the customers
  change), a part of it on three earlier ingest dates; `stedi catch-up`;
* withdrawal: bench.history's 10,000 customers after 30 dates, one withdraws who has readings on
  two of them; `stedi catch-up`;
* year: the same after 365 dates, of one with readings on each, without latency.

--where prints where each event's requests went, --log writes every request to a file an event.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bench import report, requests
from bench.history import History, check_person
from bench.lake import BenchLake, bench_lake
from bench.make_data import make_data
from bench.run import DAY, content_on_s3, materialize_command, say
from bench.s3_proxy import Request, S3Proxy, busy_seconds, most_at_once
from stedi_assets.local.sample_data import write_sample

FIRST = date(2022, 6, 18)
DATES, CUSTOMERS = 30, 2000
# Of the sample's next day: what lands on which earlier ingest date, by the objects' stem.
LATE = {("accelerometer", "late"): 29, ("step_trainer", "late"): 27, ("customer", "customer"): 20}
# At most: seconds with the latency, and requests.
TARGETS = {
    "published": (None, 350),
    "nothing": (None, None),
    "day": (40, 1500),
    "withdrawal": (15, 500),
    "year": (20, 5000),
}
# The published-size run with the latency, against without it: at most.
MOST_TIMES = 2


@dataclass(frozen=True)
class Event:
    """One measured command."""

    scenario: str
    what: str
    latency: float  # seconds
    seconds: float
    log: list[Request]


class Bench:
    """Measures commands behind the proxy, and keeps and tells what they took."""

    def __init__(self, latency: float, where: bool, logs: Path | None) -> None:
        self.latency, self.where, self.logs = latency, where, logs
        self.events: list[Event] = []

    def stedi(self, scenario: str, what: str, lake: BenchLake, *arguments: str) -> None:
        """A `stedi` command with the latency."""
        self.measure(scenario, what, lambda through: through.stedi(*arguments).seconds, lake)

    def measure(
        self,
        scenario: str,
        what: str,
        run: Callable[[BenchLake], float],
        lake: BenchLake,
        latency: float | None = None,
    ) -> None:
        """Run something on a lake behind the proxy; run gives its seconds back."""
        latency = self.latency if latency is None else latency
        with S3Proxy(lake.server.endpoint, latency=latency) as proxy:
            seconds = run(lake.through(proxy.endpoint))
            event = Event(scenario, what, latency, seconds, list(proxy.log))
        self.events.append(event)
        summary = requests.summary(event.log, latency)
        say(f"{what}, {latency * 1000:.0f} ms a request: {seconds:.1f} s; {summary}")
        if self.where:
            print(f"\n{what}\n\n{requests.counts(event.log)}\n", flush=True)
        if self.logs:
            self.logs.mkdir(parents=True, exist_ok=True)
            path = self.logs / f"{len(self.events):02}-{scenario}-{latency * 1000:.0f}ms.log"
            path.write_text(requests.lines(event.log), encoding="utf-8")


@contextmanager
def _new_lake() -> Iterator[tuple[BenchLake, Path]]:
    """An empty lake, and a folder for data that is not there yet."""
    with tempfile.TemporaryDirectory() as made, bench_lake(Path(made) / "lake") as lake:
        yield lake, Path(made) / "data"


def published(bench: Bench, nothing_too: bool) -> None:
    """The published-size run without and with the latency, and then nothing to do."""

    def materialize(lake: BenchLake) -> float:
        return lake.measure(materialize_command(), DAGSTER_HOME=str(lake.dagster_home)).seconds

    contents = []
    for latency in (0.0, bench.latency):
        with _new_lake() as (lake, data):
            lake.stedi("land", str(make_data(None, data, 1)), "--ingest-date", DAY)
            what = "published-size run"
            bench.measure("published", what, materialize, lake, latency)
            contents.append(content_on_s3(lake))
            if latency and nothing_too:
                lake.stedi("catch-up")
                bench.stedi("nothing", "nothing to do", lake, "catch-up")
    if contents[0] != contents[1] or not all(rows for rows, _ in contents[0].values()):
        raise SystemExit("The two published-size runs differ, or a table is empty.")


def ordinary_day(bench: Bench) -> None:
    """The sample's 31st day with some late objects."""
    with _new_lake() as (lake, data):
        write_sample(data, customers=CUSTOMERS, days=DATES + 1, first_date=FIRST)
        (data / "sample.json").unlink()
        last = _take_last_day(data)
        lake.stedi("land", str(data))
        built = lake.stedi("catch-up")
        say(f"{DATES} dates of the sample are in the tables: {built.seconds:.0f} s")
        lake.stedi("land", str(last))
        bench.stedi("day", f"ordinary day after {DATES} dates", lake, "catch-up")
        _nothing_left(lake)


def _take_last_day(data: Path) -> Path:
    """The last day's objects, moved to a folder beside; some of them to earlier ingest dates."""
    days = sorted({path.name for path in data.glob("*/ingest_date=*")})
    last = data.with_name("last-day")
    for path in sorted(data.glob(f"*/{days[-1]}/*")):
        entity, stem = path.parts[-3], path.name.partition("-")[0]
        day = days[LATE.get((entity, stem), DATES)]
        target = last / entity / day / f"after-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if (entity, stem) == ("customer", "customer"):
            # The last two of the day's records are the late ones.
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            target.write_text("".join(lines[-2:]), encoding="utf-8")
            target = last / entity / days[-1] / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(lines[:-2]), encoding="utf-8")
        else:
            shutil.copy(path, target)
    for folder in data.glob(f"*/{days[-1]}"):
        shutil.rmtree(folder)
    return last


def withdrawal(bench: Bench, scenario: str, dates: int, latency: float) -> None:
    """A withdrawal after a history: of one with readings on two dates, or on each (year)."""
    history = History(dates, 10_000, 1, 0.05, 30)
    number, on = (history.repeats, "two") if scenario == "withdrawal" else (0, str(dates))
    with _new_lake() as (lake, data):
        for day in range(-dates, 0):
            history.write(data, day)
        lake.stedi("land", str(data))
        shutil.rmtree(data)
        built = lake.stedi("catch-up")
        say(f"{dates} dates are in the tables: {built.seconds:.0f} s")
        check_person(lake, number, present=True)
        history.write_withdrawal(data, number, 0)
        lake.stedi("land", str(data))
        what = f"withdrawal after {dates} dates, readings on {on}"
        bench.measure(scenario, what, lambda one: one.stedi("catch-up").seconds, lake, latency)
        check_person(lake, number, present=False)
        _nothing_left(lake)


def _nothing_left(lake: BenchLake) -> None:
    said = lake.stedi("catch-up").measured.stdout
    if "Nothing to catch up on" not in said:
        raise SystemExit(f"A second catch-up found something to do: {said}")


def tell(events: list[Event]) -> str:
    """A row an event, and how the published-size run's two stand to each other."""
    rows = []
    for event in events:
        seconds, number = TARGETS[event.scenario]
        rows.append(
            [
                event.what,
                f"{event.latency * 1000:.0f}",
                f"{event.seconds:.1f}",
                f"≤ {seconds}" if seconds else "",
                len(event.log),
                f"≤ {number}" if number else "",
                f"{busy_seconds(event.log):.1f}",
                most_at_once(event.log),
            ]
        )
    header = ["event", "ms a request", "seconds", "target", "requests", "target"]
    text = report.table([*header, "waiting for S3, s", "most at once"], rows)
    both = [event.seconds for event in events if event.scenario == "published"]
    if len(both) == 2:
        text += (
            f"\n\nThe published-size run takes {both[1] / both[0]:.2f} times as long with the"
            f" latency as without it (target at most {MOST_TIMES})."
        )
    return text


def main() -> None:
    """Parse the arguments, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", default="published,nothing,day,withdrawal,year")
    parser.add_argument("--latency", type=float, default=25, metavar="MS")
    parser.add_argument("--where", action="store_true", help="print where the requests went")
    parser.add_argument("--log", type=Path, help="a folder for files with every request")
    parser.add_argument("--out", type=Path, help="a file for the table")
    parser.add_argument("--update", type=Path, help="a page with a marked place for the table")
    arguments = parser.parse_args()
    wanted = arguments.scenarios.split(",")
    if unknown := set(wanted) - TARGETS.keys():
        parser.error(f"--scenarios: there is no {', '.join(sorted(unknown))}")
    started = report.where_and_when()
    bench = Bench(arguments.latency / 1000, arguments.where, arguments.log)
    if {"published", "nothing"} & set(wanted):
        published(bench, "nothing" in wanted)
    if "day" in wanted:
        ordinary_day(bench)
    if "withdrawal" in wanted:
        withdrawal(bench, "withdrawal", DATES, bench.latency)
    if "year" in wanted:
        withdrawal(bench, "year", 365, 0)
    text = f"{started}. One measurement an event.\n\n{tell(bench.events)}"
    report.publish(text, "bench of latency", arguments.out, arguments.update)


if __name__ == "__main__":
    main()
