"""`stedi catalog`: the tables in AWS Glue, for Athena."""

import click

from stedi_assets.cli.common import example, open_lakehouse
from stedi_assets.errors import StediError
from stedi_assets.settings import load_settings


@click.group(epilog=example("stedi catalog sync"))
def catalog() -> None:
    """The tables in the Glue database STEDI_GLUE_DATABASE (docs/athena.md)."""


def _database() -> str:
    database = load_settings().glue_database
    if database is None:
        raise StediError("STEDI_GLUE_DATABASE is not set: say in which Glue database.")
    return database


@catalog.command(epilog=example("stedi catalog sync"))
def sync() -> None:
    """Register the tables; what is registered already is changed only where it differs.

    A table of the same name that this command did not make is left alone.
    """
    from stedi_assets.aws import aws_client
    from stedi_assets.catalog.sync import sync as sync_tables
    from stedi_assets.tables.schemas import TABLES

    database, lakehouse = _database(), open_lakehouse()
    settings = lakehouse.store.settings
    written = {table.name for table in TABLES.values() if lakehouse.log(table) is not None}
    outcomes = sync_tables(aws_client("glue", settings.region), database, settings, written)
    for table, outcome in outcomes.items():
        click.echo(f"{database}.{table}: {outcome}")


@catalog.command(epilog=example("stedi catalog ddl > tables.sql"))
def ddl() -> None:
    """Print the statement that makes each table by hand, in Athena."""
    from stedi_assets.catalog.table_input import ddl as statements

    for statement in statements(load_settings(), _database()).values():
        click.echo(f"{statement}\n")
