"""`stedi sample`, `land`, `tables`, `query`: data into the lake, and reading it."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stedi_assets.cli.common import (
    date_option,
    example,
    open_checked_lake,
    open_lakehouse,
    warn,
)
from stedi_assets.errors import StediError
from stedi_assets.settings import load_settings, today

if TYPE_CHECKING:
    import pyarrow


@click.command(epilog=example("stedi land export/", "stedi land export/ --ingest-date 2026-11-24"))
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--ingest-date",
    callback=date_option,
    metavar="YYYY-MM-DD",
    help="The day it lands on, where SOURCE has no ingest_date= folders; default: today, UTC.",
)
@click.option("--mix", is_flag=True, help="Mix sample data and other data in one lake.")
def land(source: Path, ingest_date: date | None, mix: bool) -> None:
    """Land the objects of SOURCE (folders customer, accelerometer, step_trainer).

    Nothing landed is ever overwritten: the same name and content is not sent twice, a name that
    is there with other content lands under a name that carries the content's hash.
    """
    from stedi_assets.cli.progress import progress
    from stedi_assets.landing.upload import land as land_source
    from stedi_assets.local.first_date import adopt_first_date_of
    from stedi_assets.local.sample_lake import refuse_mixing

    adopt_first_date_of(source, ingest_date or today())
    lake = open_checked_lake()
    settings = lake.settings
    if not mix:
        refuse_mixing(lake, source)
    with progress("Landing") as step:
        upload_result = land_source(
            lake.client,
            settings.bucket,
            settings.prefix,
            source,
            ingest_date or today(),
            step,
            between=(settings.first_ingest_date, today()),
        )
    for warning in upload_result.warnings:
        warn(warning)
    click.echo(
        f"Landed {upload_result.sent} objects in {settings.lake}"
        f" ({upload_result.skipped} were there already, {upload_result.renamed} renamed)."
    )


@click.command(epilog=example("stedi sample sample/ --customers 1000 --days 7 --seed 1"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--customers", default=200, show_default=True, help="How many customers.")
@click.option("--days", default=3, show_default=True, help="How many ingest dates.")
@click.option(
    "--first-date",
    callback=date_option,
    metavar="YYYY-MM-DD",
    help="The first of them; default: so that the last is today, UTC.",
)
@click.option(
    "--seed", default=0, show_default=True, help="The same seed and dates, the same bytes."
)
def sample(folder: Path, customers: int, days: int, first_date: date | None, seed: int) -> None:
    """Write synthetic data into FOLDER, in the layout that `stedi land` takes."""
    from stedi_assets.cli.progress import progress
    from stedi_assets.local.sample_data import write_sample

    if first_date is None:
        first_date = today() - timedelta(min(days, 36_500) - 1)
    with progress("Writing") as step:
        counts = write_sample(
            folder, customers=customers, days=days, first_date=first_date, seed=seed, progress=step
        )
    click.echo(f"Wrote synthetic data into {folder}; sample.json there says what is in it.")
    click.echo(json.dumps(counts.get("total", {}), sort_keys=True))


@click.command(epilog=example("stedi tables"))
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def tables(as_json: bool) -> None:
    """The eight tables: rows, newest ingest date, Delta version, size, malformed rows."""
    from stedi_assets.cli.output import print_figures
    from stedi_assets.lakehouse.query import table_figures

    figures = table_figures(open_lakehouse())
    if as_json:
        click.echo(json.dumps([figure.as_json() for figure in figures], indent=2))
    else:
        print_figures(figures)


@click.command(
    epilog=example(
        'stedi query "SELECT count(*) FROM machine_learning_curated"',
        'stedi query "SELECT * FROM customers_curated LIMIT 5" --format csv',
    )
)
@click.argument("sql")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How the answer is written.",
)
@click.option(
    "--engine",
    type=click.Choice(["spark", "athena"]),
    default="spark",
    show_default=True,
    help="spark: what STEDI_SPARK names; athena: the workgroup STEDI_ATHENA_WORKGROUP.",
)
def query(sql: str, form: str, engine: str) -> None:
    """Run a read-only SQL query over the eight tables, by their names.

    The SQL is Spark's, on Athena too. SHOW TABLES and DESCRIBE TABLE say what there is to ask.
    """
    from stedi_assets.cli.output import print_answer

    print_answer(_on_athena(sql) if engine == "athena" else _on_spark(sql), form)


def _on_spark(sql: str) -> "pyarrow.Table":
    from stedi_assets.lakehouse.query import run_query

    return run_query(open_lakehouse(), sql)


def _on_athena(sql: str) -> "pyarrow.Table":
    from stedi_assets.lakehouse.query import describe
    from stedi_assets.lakehouse.read_only_sql import parse_query

    settings = load_settings()
    if settings.athena_workgroup is None or settings.glue_database is None:
        raise StediError(
            "Queries on Athena need STEDI_ATHENA_WORKGROUP and STEDI_GLUE_DATABASE"
            " (docs/athena.md); without --engine the query runs on Spark."
        )
    from stedi_assets.catalog.athena import run_athena_query

    answer = describe(sql)
    if answer is not None:
        return answer
    return run_athena_query(
        parse_query(sql).translated("athena"),
        workgroup=settings.athena_workgroup,
        database=settings.glue_database,
        region=settings.region,
    )
