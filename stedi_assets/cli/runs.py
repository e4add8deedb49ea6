"""`stedi materialize`, `catch-up`, `rebuild`: runs, and dropping what they built."""

import json
import os
import subprocess
import sys

import click

from stedi_assets.cli.common import (
    example,
    open_checked_lake,
    refuse_while_runs_are_in_progress,
    run_catch_up,
    warn_outside_partitions,
)
from stedi_assets.errors import StediError
from stedi_assets.settings import dagster_home, load_settings, today


@click.command(epilog=example("stedi materialize"))
def materialize() -> None:
    """Run `dagster asset materialize` over the whole graph for every landed date."""
    from stedi_assets.incremental.date_ranges import stretches
    from stedi_assets.landing.upload import landed_dates

    dagster_home()
    lake = open_checked_lake()
    settings = lake.settings
    found = landed_dates(lake.client, settings.bucket, settings.prefix)
    days = sorted({day for days in found.values() for day in days})
    ready = [day for day in days if settings.first_ingest_date <= day <= today()]
    for day in sorted(set(days) - set(ready)):
        warn_outside_partitions(day, settings.first_ingest_date)
    if not ready:
        raise StediError("Nothing has landed yet: land some objects with `stedi land SOURCE`.")
    for first, last in stretches(ready):
        click.echo(f"Materializing {first} to {last} …")
        command = _dagster("--partition-range", f"{first}...{last}")
        # Dagster's warnings about its own interfaces tell a user nothing.
        code = subprocess.run(command, env={**os.environ, "PYTHONWARNINGS": "ignore"}).returncode
        if code:
            raise StediError(f"The run over {first} to {last} failed; its log is above.")


def _dagster(*partition: str) -> list[str]:
    module = ["-m", "stedi_assets.definitions", "--select", "*"]
    console = json.dumps({"loggers": {"console": {"config": {"log_level": "WARNING"}}}})
    dagster = [sys.executable, "-m", "dagster", "asset", "materialize"]
    return [*dagster, *module, *partition, "--config-json", console]


@click.command("catch-up", epilog=example("stedi catch-up"))
def catch_up() -> None:
    """Do what the sensors would do, until nothing is left to do.

    What fails three times holds up nothing else: it is named at the end, and the exit code is 1.
    """
    runs = run_catch_up()
    click.echo(f"Caught up, in {runs} runs." if runs else "Nothing to catch up on.")


@click.command(epilog=example("stedi rebuild", "stedi rebuild --yes && stedi materialize"))
@click.option("--yes", is_flag=True, help="Do not ask.")
def rebuild(yes: bool) -> None:
    """Forget the settings that the lake was built with, and every table; landed objects stay.

    The next run builds the tables with this process's settings. Stop the daemon first: it would
    write with the settings and the table versions that it knows. Refused while a run is in progress
    in DAGSTER_HOME.
    """
    from stedi_assets.lakehouse.object_store import Lake
    from stedi_assets.tables.schemas import TABLES

    refuse_while_runs_are_in_progress("stedi rebuild")
    lake = Lake(load_settings())
    lake.settings.of_the_lake()
    if not yes:
        click.confirm(f"Delete every table of {lake.settings.lake}?", abort=True)
    for table in TABLES.values():
        lake.delete([found["Key"] for found in lake.objects(f"{table.path}/")])
    kept = "_stedi/audit/"  # who was forgotten, when and by which command
    lake.delete([one["Key"] for one in lake.objects("_stedi/") if not one["Key"].startswith(kept)])
    click.echo("The tables are gone; `stedi materialize` builds them as this process is set.")
