"""`make bench`: the project against two DuckDB and a plain PySpark script, in one run, as ratios.

    python -m bench.run [--scales 1,10,50,200] [--repeats 3] [--source DIR] [--spark]
        [--skip-pyspark] [--out FILE] [--update PAGE]

Without a source, synthetic data of the published shape. The project goes from JSON on S3 to Delta
on S3 as one `dagster asset materialize`, the scripts from and to local disk, which favours them.
Memory is the peak of all of a command's processes, the S3 server left out. Outside of the timing,
all tables are compared: rows everywhere, content past the landing zone. With --spark the project
runs on Apache Spark `local[2]`, against the plain PySpark script only. More: docs/benchmarks.md.
"""

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb

from bench import report
from bench.lake import BenchLake, Traffic, bench_lake
from bench.make_data import make_data
from bench.measure import Measured, run
from stedi_assets.settings import EMBEDDED_SALT
from stedi_assets.tables.schemas import TABLES, Table

DAY = "2022-06-18"
SPARK = "local[2]"
# Of a table: its rows, and a number that is the same for the same rows in any order.
Content = dict[str, tuple[int, int]]

# The project's time divided by a script's, at most, where the project promises something.
TARGETS = {
    ("stedi_assets", "plain_pyspark", 1): 1 / 4,
    ("stedi_assets", "duckdb_script", 50): 4,
    ("stedi_assets", "duckdb_json_script", 50): 3.5,
    ("stedi_assets", "duckdb_script", 200): 2,
    ("stedi_assets", "plain_pyspark", 50): 1 / 6,
}
# On Apache Spark: the project's time at 50 times less that at 1, divided by the same of the script.
MOST_ADDED = 1.5
# At 200 times: peak memory, and time divided by that at 50 times.
MOST_BYTES, MOST_GROWTH = 3e9, 4


@dataclass(frozen=True)
class Result:
    """What one command at one scale took and gave."""

    what: str
    measured: Measured
    traffic: Traffic | None  # the scripts have none
    steps: dict[str, float]  # seconds of each step of the project's run
    content: Content
    files: dict[str, list[int]]  # bytes of each data file of each of the project's tables

    @property
    def seconds(self) -> float:
        return self.measured.seconds


# ------------------------------------------------------------------------------- measuring


def materialize_command() -> list[str]:
    """The command that materializes the whole graph for the one date."""
    assets = ["-m", "stedi_assets.definitions", "--select", "*", "--partition", DAY]
    return [sys.executable, "-m", "dagster", "asset", "materialize", *assets]


def project(source: Path, folder: Path, spark: bool) -> Result:
    """The project's whole command on landed data, on a lake of its own."""
    with bench_lake(folder) as lake:
        lake.stedi("land", str(source), "--ingest-date", DAY)
        engine = {"STEDI_SPARK": SPARK} if spark else {}
        figures = lake.measure(materialize_command(), DAGSTER_HOME=str(lake.dagster_home), **engine)
        return Result(
            "stedi_assets on Apache Spark" if spark else "stedi_assets",
            figures.measured,
            figures.traffic,
            step_seconds(lake.dagster_home),
            content_on_s3(lake),
            {table.name: file_sizes(lake, table) for table in TABLES.values()},
        )


def script(name: str, source: Path, folder: Path) -> Result:
    """One of the plain scripts, whole process."""
    command = [sys.executable, "-m", f"bench.{name}", str(source), str(folder)]
    measured = run([*command, "--salt", EMBEDDED_SALT])
    return Result(name, measured, None, {}, content_on_disk(folder), {})


def step_seconds(home: Path) -> dict[str, float]:
    """The seconds of each step of the one run in a Dagster home, from its event log."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (only,) = instance.get_runs()
        return {
            step.step_key: step.end_time - step.start_time
            for step in instance.get_run_step_stats(only.run_id)
            if step.start_time is not None and step.end_time is not None
        }


def content_on_s3(lake: BenchLake) -> Content:
    """What the project's tables hold."""
    db, found = duckdb.connect(), {}
    for table in TABLES.values():
        db.register("rows", lake.delta(table).to_pyarrow_dataset())
        found[table.name] = content(db, table, "rows")
    return found


def file_sizes(lake: BenchLake, table: Table) -> list[int]:
    """The bytes of a table's data files."""
    sizes = lake.delta(table).get_add_actions().column("size_bytes")
    return [int(size) for size in sizes.to_pylist()]


def content_on_disk(folder: Path) -> Content:
    """What a script's parquet files hold: `TABLE.parquet`, or those in a folder `TABLE`."""
    db, found = duckdb.connect(), {}
    for table in TABLES.values():
        path = folder / table.name
        files = path / "*.parquet" if path.is_dir() else path.with_suffix(".parquet")
        found[table.name] = content(db, table, f"read_parquet('{files}')")
    return found


def content(db: duckdb.DuckDBPyConnection, table: Table, source: str) -> tuple[int, int]:
    """A table's count, and past the landing zone the sum of its rows' hashes.

    Not in the landing zone: the scripts keep less of a malformed record than the contract wants.
    """
    columns = ", ".join(f'CAST("{c.name}" AS {c.type})' for c in table.columns)
    hashes = "0" if table.zone == "landing" else f"coalesce(sum(hash({columns})::HUGEINT), 0)"
    ((rows, total),) = db.execute(f"SELECT count(*), {hashes} FROM {source}").fetchall()
    return int(rows), int(total)


def measure_scale(arguments: argparse.Namespace, scale: int) -> list[Result]:
    """Every command at a scale: of its repeats the one with the median time."""
    scripts = [] if arguments.spark else ["duckdb_script", "duckdb_json_script"]
    scripts.append("plain_pyspark")
    if arguments.skip_pyspark:
        scripts.remove("plain_pyspark")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = make_data(arguments.source, folder / "data", scale)
        runs: dict[str, list[Result]] = {}
        for _ in range(arguments.repeats):
            for name in ["project", *scripts]:
                work = folder / name
                if name == "project":
                    result = project(data, work, arguments.spark)
                else:
                    result = script(name, data, work)
                shutil.rmtree(work)
                say(f"{scale} times, {result.what}: {result.seconds:.1f} s")
                runs.setdefault(name, []).append(result)
    results = [sorted(of, key=lambda one: one.seconds)[len(of) // 2] for of in runs.values()]
    check_equal(runs)
    return results


def check_equal(runs: dict[str, list[Result]]) -> None:
    """SystemExit where not all runs gave the same tables."""
    first, *others = (result for of in runs.values() for result in of)
    for other in others:
        wrong = [name for name in TABLES if other.content[name] != first.content[name]]
        if wrong:
            counts = {name: (first.content[name][0], other.content[name][0]) for name in wrong}
            raise SystemExit(f"{first.what} and {other.what} differ (rows of each): {counts}")


def say(line: str) -> None:
    """Progress, for whoever waits."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


# --------------------------------------------------------------------------------- telling


def commands(results: dict[int, list[Result]]) -> str:
    """A row for every command at every scale."""
    header = ["times", "what", "seconds", "project's time / its time", "target", "peak GB"]
    rows = []
    for scale, (mine, *others) in results.items():
        for one in [mine, *others]:
            target = TARGETS.get((mine.what, one.what, scale))
            rows.append(
                [
                    scale,
                    one.what,
                    f"{one.seconds:.1f}",
                    "" if one is mine else f"{mine.seconds / one.seconds:.2f}",
                    "" if target is None else f"≤ {target:.2f}",
                    f"{one.measured.peak_rss_bytes / 1e9:.2f}",
                    *traffic_cells(one.traffic),
                ]
            )
    return report.table([*header, "MB read", "MB written", "requests"], rows)


def traffic_cells(traffic: Traffic | None) -> list[str]:
    """Traffic as cells of a table; empty ones where there is none."""
    if traffic is None:
        return ["", "", ""]
    return [f"{traffic.read / 1e6:.1f}", f"{traffic.written / 1e6:.1f}", str(traffic.requests)]


def steps(results: dict[int, list[Result]]) -> str:
    """Seconds of the project's steps; what is left is imports, loading and starting the engine."""
    projects = {scale: mine for scale, (mine, *_) in results.items()}
    names = [name for table in TABLES for name in (table, f"{table}_checks")]
    rows = [
        [name, *(f"{mine.steps.get(name, 0):.2f}" for mine in projects.values())] for name in names
    ]
    rest = [f"{mine.seconds - sum(mine.steps.values()):.2f}" for mine in projects.values()]
    whole = [f"{mine.seconds:.2f}" for mine in projects.values()]
    return report.table(
        ["step, seconds", *(f"{scale} times" for scale in projects)],
        [*rows, ["before, between and after steps", *rest], ["whole command", *whole]],
    )


def growth(results: dict[int, list[Result]]) -> str:
    """How time and memory at 200 times, or on Spark the time at 50, stand to the targets."""
    if {1, 50} <= results.keys() and results[1][0].what.endswith("Spark"):
        added = [results[50][n].seconds - results[1][n].seconds for n in (0, -1)]
        return (
            f"\n\n50 times takes {added[0]:.1f} s more than 1: {added[0] / added[1]:.2f} times"
            f" the plain script's {added[1]:.1f} s (target at most {MOST_ADDED})."
        )
    if not {50, 200} <= results.keys():
        return ""
    at_50, at_200 = results[50][0], results[200][0]
    return (
        f"\n\nAt 200 times: {at_200.seconds / at_50.seconds:.2f} times the time of 50 times"
        f" (target at most {MOST_GROWTH}), peak memory"
        f" {at_200.measured.peak_rss_bytes / 1e9:.2f} GB (target under {MOST_BYTES / 1e9:.0f} GB)."
    )


def tables(results: dict[int, list[Result]]) -> str:
    """What the tables are: rows, the same from every command, and the project's files on S3."""
    projects = {scale: mine for scale, (mine, *_) in results.items()}
    return report.table(
        ["rows, MB in files", *(f"{scale} times" for scale in projects)],
        [[name, *(table_cell(mine, name) for mine in projects.values())] for name in TABLES],
    )


def table_cell(mine: Result, name: str) -> str:
    """A table of the project in few words."""
    sizes = mine.files[name]
    return f"{mine.content[name][0]:,}, {sum(sizes) / 1e6:.1f} in {len(sizes)}"


def main() -> None:
    """Parse the arguments, measure, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scales", default="1,10,50,200")
    parser.add_argument("--repeats", type=int, default=3, help="of which the median counts")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--spark", action="store_true", help=f"the project on Spark {SPARK}")
    parser.add_argument("--skip-pyspark", action="store_true")
    parser.add_argument("--out", type=Path, help="a file for the tables")
    parser.add_argument("--update", type=Path, help="a page with a marked place for the tables")
    arguments = parser.parse_args()
    started = report.where_and_when()
    if arguments.spark:
        fetch_jars()
    results = {
        scale: measure_scale(arguments, scale) for scale in map(int, arguments.scales.split(","))
    }
    base = "the published data" if arguments.source else "synthetic data of the published shape"
    text = (
        f"{started}. Base: {base}; the median of {arguments.repeats}.\n\n"
        f"{commands(results)}{growth(results)}\n\n{steps(results)}\n\n{tables(results)}"
    )
    section = "bench on Apache Spark" if arguments.spark else "bench"
    report.publish(text, section, arguments.out, arguments.update)


def fetch_jars() -> None:
    """Let Spark resolve its jars, once a machine, so that no measured run does."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        project(make_data(None, folder / "data", 1), folder / "project", spark=True)


if __name__ == "__main__":
    main()
