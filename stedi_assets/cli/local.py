"""`stedi local`, `stedi spark-conf`: what a command or an engine is started with."""

import sys

import click

from stedi_assets.cli.common import example
from stedi_assets.settings import EMBEDDED_SALT, home, load_settings


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=example(
        "stedi local -- stedi catch-up",
        "stedi local -- dagster dev",
    ),
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def local(command: tuple[str, ...]) -> None:
    """Run COMMAND with the embedded lake; starts its S3 server if it is not running."""
    from stedi_assets.local.s3_server import run_local

    sys.exit(run_local(command, home() / "s3", EMBEDDED_SALT))


@click.command("spark-conf", epilog=example("stedi spark-conf > stedi.conf"))
def spark_conf() -> None:
    """What Apache Spark is started with to serve this lake, for its --properties-file.

    Keys are not among it: give the AWS variables to the process that starts Spark.
    """
    from stedi_assets.spark.options import server_options

    for name, value in server_options(load_settings()).items():
        click.echo(f"{name} {value}")
