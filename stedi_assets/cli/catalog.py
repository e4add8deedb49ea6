"""`stedi catalog`: the lake's tables in the Glue Data Catalog, for Athena."""

import click

from stedi_assets.cli.common import example, open_lakehouse
from stedi_assets.errors import StediError
from stedi_assets.settings import load_settings


@click.group(epilog=example("stedi catalog sync"))
def catalog() -> None:
    """The tables in the Glue Data Catalog, for Athena (docs/athena.md)."""


@catalog.command(epilog=example("STEDI_GLUE_DATABASE=stedi stedi catalog sync"))
def sync() -> None:
    """Register the lake's tables in the database STEDI_GLUE_DATABASE, and those of landed JSON.

    What is registered as it should be is not touched, and never a table that this command did not
    make: it is named, and the exit code is 1.
    """
    from stedi_assets.catalog.sync import NOT_OURS, sync_lake

    outcomes = sync_lake(open_lakehouse())
    for name, outcome in outcomes.items():
        click.echo(f"{name}: {outcome}")
    foreign = [name for name, outcome in outcomes.items() if outcome == NOT_OURS]
    if foreign:
        raise StediError(
            f"Not made by `stedi catalog sync` and left alone: {', '.join(foreign)}."
            " Drop them, or take another database for STEDI_GLUE_DATABASE."
        )


@catalog.command(epilog=example("stedi catalog ddl > tables.sql"))
def ddl() -> None:
    """Print the statements that make the tables in Athena by hand."""
    from stedi_assets.catalog.table_input import ddl as statements

    settings = load_settings()
    for statement in statements(settings, settings.glue_database or "stedi").values():
        click.echo(f"{statement}\n")
