"""`stedi materialize`, `catch-up`, `rebuild`: runs, and dropping what they built."""

import click

from stedi_assets.cli.common import (
    example,
    open_lakehouse,
    open_pipeline,
    refuse_while_runs_are_in_progress,
    run_catch_up,
    warn,
    warn_outside_partitions,
)
from stedi_assets.settings import dagster_home, load_settings


@click.command(epilog=example("stedi materialize"))
def materialize() -> None:
    """Run `dagster asset materialize` over the whole graph for every landed date to build.

    A second one does nothing; `dagster asset materialize` itself builds any dates again. At the end
    it says which tables are empty, and why most of what landed is malformed.
    """
    from stedi_assets.defs.materialize import landing_warnings, materialize_landed
    from stedi_assets.incremental.pipeline import Pipeline

    dagster_home()
    pipeline = Pipeline(open_lakehouse())
    for day in materialize_landed(pipeline, click.echo):
        warn_outside_partitions(day, pipeline.settings.first_ingest_date)
    for warning in landing_warnings(pipeline.lakehouse):
        warn(warning)


@click.command("catch-up", epilog=example("stedi catch-up"))
def catch_up() -> None:
    """Do what the sensors would do, until nothing is left to do.

    What fails holds up nothing else: it is named at the end, and the exit code is 1.
    """
    dagster_home()
    runs = run_catch_up(open_pipeline())
    count = "one run" if runs == 1 else f"{runs} runs"
    click.echo(f"Caught up, in {count}." if runs else "Nothing to catch up on.")


@click.command(epilog=example("stedi rebuild", "stedi rebuild --yes && stedi materialize"))
@click.option("--yes", is_flag=True, help="Do not ask.")
def rebuild(yes: bool) -> None:
    """Drop all tables and the lake's stored settings; landed objects are kept.

    The next run builds the tables with this process's settings. Stop the daemon first: it would
    write with the settings and the table versions that it knows. Refused while a run is in progress
    in DAGSTER_HOME.
    """
    from stedi_assets.incremental.rebuild import drop_tables
    from stedi_assets.lakehouse.object_store import ObjectStore
    from stedi_assets.local.first_date import adopt_first_landed_date

    refuse_while_runs_are_in_progress("stedi rebuild")
    lake = ObjectStore(load_settings())
    lake.settings.salt()
    if not yes:
        click.confirm(f"Delete every table of {lake.settings.lake}?", abort=True)
    drop_tables(lake)
    adopt_first_landed_date(lake)
    click.echo("The tables are gone; `stedi materialize` builds them as this process is set.")
