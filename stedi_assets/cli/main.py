"""The `stedi` command: everything beside `dagster` itself that a person types."""

import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click

from stedi_assets.errors import StediError
from stedi_assets.settings import EMBEDDED_SALT, home, load_settings, today


class _Commands(click.Group):
    """Commands whose StediError is one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StediError as error:
            click.echo(f"stedi: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stedi_assets")
def main() -> None:
    """The STEDI lakehouse. STEDI_LAKE says where it is; unset, it is the embedded one."""


def _day(context: click.Context, parameter: click.Parameter, value: str | None) -> date | None:
    from stedi_assets.landing.upload import parse_date

    day = parse_date(value) if value is not None else None
    if value is not None and day is None:
        raise click.BadParameter(f"{value!r} is not a date: write it as 2022-06-18.")
    return day


def _lake() -> Any:
    from stedi_assets.lakehouse.object_store import open_store

    lake = open_store(load_settings())
    lake.check()
    return lake


def _lakehouse() -> Any:
    from stedi_assets.lakehouse.tables import Lakehouse
    from stedi_assets.spark.session import SparkSessions

    return Lakehouse(_lake(), SparkSessions())


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def local(command: tuple[str, ...]) -> None:
    """Run COMMAND with the embedded lake; starts its S3 server if it is not running."""
    from stedi_assets.local.s3_server import run_local

    sys.exit(run_local(command, home() / "s3", EMBEDDED_SALT))


@main.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--ingest-date",
    callback=_day,
    metavar="YYYY-MM-DD",
    help="The day it lands on; default: today, UTC.",
)
def land(source: Path, ingest_date: date | None) -> None:
    """Land the objects of SOURCE (folders customer, accelerometer, step_trainer).

    Nothing landed is ever overwritten: the same name and content is not sent twice, a name that
    is there with other content lands under a name that carries the content's hash.
    """
    from stedi_assets.cli.progress import progress
    from stedi_assets.landing.upload import land as land_source
    from stedi_assets.local.first_date import adopt_first_date_of

    adopt_first_date_of(source, ingest_date or today())
    lake = _lake()
    settings = lake.settings
    with progress("Landing") as step:
        landed = land_source(
            lake.client, settings.bucket, settings.prefix, source, ingest_date or today(), step
        )
    for warning in landed.warnings:
        click.echo(f"stedi: {warning}", err=True)
    for day in sorted(landed.dates):
        if not settings.first_ingest_date <= day <= today():
            _say_not_landed(day, settings.first_ingest_date)
    click.echo(
        f"Landed {landed.sent} objects in {settings.lake}"
        f" ({landed.skipped} were there already, {landed.renamed} renamed)."
    )


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--customers", default=200, show_default=True, help="How many customers.")
@click.option("--days", default=3, show_default=True, help="How many ingest dates.")
@click.option(
    "--first-date",
    callback=_day,
    metavar="YYYY-MM-DD",
    help="The first of them; default: so that the last is today, UTC.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed, the same bytes.")
def sample(folder: Path, customers: int, days: int, first_date: date | None, seed: int) -> None:
    """Write synthetic data into FOLDER, in the layout that `stedi land` takes."""
    from stedi_assets.cli.progress import progress
    from stedi_assets.local.sample_data import write_sample

    first_date = first_date or today() - timedelta(days - 1)
    with progress("Writing") as step:
        counts = write_sample(
            folder, customers=customers, days=days, first_date=first_date, seed=seed, progress=step
        )
    click.echo(f"Wrote synthetic data into {folder}; sample.json there says what is in it.")
    click.echo(json.dumps(counts.get("total", {}), sort_keys=True))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def tables(as_json: bool) -> None:
    """The eight tables: rows, newest ingest date, Delta version, size, malformed rows."""
    from stedi_assets.cli.query import print_tables, table_figures

    figures = table_figures(_lakehouse())
    if as_json:
        click.echo(json.dumps([figure.as_json() for figure in figures], indent=2))
    else:
        print_tables(figures)


@main.command()
@click.argument("sql")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How the answer is written.",
)
def query(sql: str, form: str) -> None:
    """Run a read-only SQL query over the eight tables, by their names."""
    from stedi_assets.cli.query import print_frame, run_query

    print_frame(run_query(_lakehouse(), sql), form)


@main.command()
def materialize() -> None:
    """Run `dagster asset materialize` over the whole graph for every landed date."""
    from stedi_assets.lakehouse.dates import contiguous_ranges
    from stedi_assets.landing.upload import landed_dates

    lake = _lake()
    settings = lake.settings
    found = landed_dates(lake.client, settings.bucket, settings.prefix)
    days = sorted({day for days in found.values() for day in days})
    ready = [day for day in days if settings.first_ingest_date <= day <= today()]
    for day in sorted(set(days) - set(ready)):
        _say_not_landed(day, settings.first_ingest_date)
    if not ready:
        raise StediError("Nothing has landed yet: land some objects with `stedi land SOURCE`.")
    for first, last in contiguous_ranges(ready):
        click.echo(f"Materializing {first} to {last} …")
        command = _dagster("--partition-range", f"{first}...{last}")
        # Dagster's warnings about its own interfaces tell a user nothing.
        code = subprocess.run(command, env={**os.environ, "PYTHONWARNINGS": "ignore"}).returncode
        if code:
            raise StediError(f"The run over {first} to {last} failed; its log is above.")


def _say_not_landed(day: date, first: date) -> None:
    click.echo(
        f"stedi: ingest_date={day} lies before STEDI_FIRST_INGEST_DATE ({first}) or after today"
        f" ({today()}, UTC): no table takes its objects in.",
        err=True,
    )


def _dagster(*partition: str) -> list[str]:
    module = ["-m", "stedi_assets.definitions", "--select", "*"]
    console = json.dumps({"loggers": {"console": {"config": {"log_level": "WARNING"}}}})
    dagster = [sys.executable, "-m", "dagster", "asset", "materialize"]
    return [*dagster, *module, *partition, "--config-json", console]


def _catch_up() -> int:
    import dagster as dg

    from stedi_assets.definitions import defs, pipeline
    from stedi_assets.defs.jobs import run_here
    from stedi_assets.incremental.reconcile import catch_up

    kept = os.environ.get("DAGSTER_HOME")
    with dg.DagsterInstance.get() if kept else dg.DagsterInstance.ephemeral() as instance:
        run = run_here(defs, instance)
        return catch_up(pipeline, run, lambda line: click.echo(line, err=True))


def _runs_under_way() -> list[str]:
    """The ids of the runs that DAGSTER_HOME knows to be under way."""
    import dagster as dg

    if not os.environ.get("DAGSTER_HOME"):
        return []
    status = dg.DagsterRunStatus
    under_way = dg.RunsFilter(statuses=[status.STARTING, status.STARTED, status.CANCELING])
    with dg.DagsterInstance.get() as instance:
        return [run.run_id for run in instance.get_runs(under_way)]


def _refuse_beside_runs(command: str) -> None:
    for run in _runs_under_way():
        raise StediError(
            f"Run {run} is under way: wait for its end, or terminate it, then `{command}` again."
        )


@main.command("catch-up")
def catch_up() -> None:
    """Do what the sensors would do, until nothing is left to do.

    What fails three times holds up nothing else: it is named at the end, and the exit code is 1.
    """
    runs = _catch_up()
    click.echo(f"Caught up, in {runs} runs." if runs else "Nothing to catch up on.")


@main.command()
@click.option("--now", is_flag=True, help="Keep nothing, whatever STEDI_RETENTION_DAYS says.")
def erase(now: bool) -> None:
    """Bring membership up to date, compact, and remove files that left the tables.

    With --now nobody must be reading an older version of a table. Files of writes that were cut
    short go when they are six hours old; how many stay till then is said.
    """
    from datetime import timedelta

    from stedi_assets.definitions import pipeline
    from stedi_assets.privacy.vacuum import erase as erase_files

    _catch_up()
    retention = timedelta(0 if now else pipeline.settings.retention_days)
    click.echo(erase_files(pipeline, retention))


def _email() -> str:
    """The email, from standard input or a prompt that does not show it; never an argument."""
    if sys.stdin.isatty():
        return str(click.prompt("Email", hide_input=True))
    email = sys.stdin.readline().strip()
    if not email:
        raise StediError("Give the email on standard input.")
    return email


@main.command()
def consent() -> None:
    """What the lake holds about a person, and on what consent; the email from standard input."""
    from stedi_assets.definitions import pipeline
    from stedi_assets.privacy.forget import holdings

    email = _email()
    _lake()
    click.echo(json.dumps(holdings(pipeline, email), indent=2))


@main.command()
def forget() -> None:
    """Take a person out of everything, landed objects too; the email from standard input.

    Refused while a run is under way in DAGSTER_HOME. An audit row stays: when, which command, how
    many rows; the person only as subject_id.
    """
    from datetime import timedelta

    from stedi_assets.definitions import pipeline
    from stedi_assets.privacy.forget import find, rows_of
    from stedi_assets.privacy.forget import forget as forget_person
    from stedi_assets.privacy.vacuum import erase as erase_files

    email = _email()
    _lake()
    _refuse_beside_runs("stedi forget")
    _catch_up()
    person = find(pipeline, email)
    audit = forget_person(pipeline, person, "stedi forget")
    _catch_up()
    click.echo(erase_files(pipeline, timedelta(0)), err=True)
    click.echo(json.dumps(audit, indent=2))
    # What a run writes that had read before is marked stale, so the next catch-up takes it out.
    if any(rows_of(pipeline, person).values()) or _runs_under_way():
        raise StediError(
            "A run beside this one wrote rows of the person back, or may yet do so: when no run is"
            " under way, `stedi erase --now` takes them out."
        )


@main.command("spark-conf")
def spark_conf() -> None:
    """What Apache Spark is started with to serve this lake, for its --properties-file.

    Keys are not among it: give the AWS variables to the process that starts Spark.
    """
    from stedi_assets.spark.options import server_options

    for name, value in server_options(load_settings()).items():
        click.echo(f"{name} {value}")


@main.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def rebuild(yes: bool) -> None:
    """Forget the settings that the lake was built with, and every table; landed objects stay.

    The next run builds the tables with this process's settings. Stop the daemon first: it would
    write with the settings and the table versions that it knows. Refused while a run is under way
    in DAGSTER_HOME.
    """
    from stedi_assets.lakehouse.object_store import ObjectStore
    from stedi_assets.local.first_date import adopt_first_landed_date
    from stedi_assets.tables.schemas import TABLES

    _refuse_beside_runs("stedi rebuild")
    lake = ObjectStore(load_settings())
    lake.settings.of_the_lake()
    if not yes:
        click.confirm(f"Delete every table of {lake.settings.lake}?", abort=True)
    for table in TABLES.values():
        lake.delete([found["Key"] for found in lake.objects(f"{table.path}/")])
    kept = "_stedi/audit/"  # who was forgotten, when and by which command
    lake.delete([one["Key"] for one in lake.objects("_stedi/") if not one["Key"].startswith(kept)])
    adopt_first_landed_date(lake)
    click.echo("The tables are gone; `stedi materialize` builds them as this process is set.")


if __name__ == "__main__":
    main()
