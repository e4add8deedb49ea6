"""`stedi erase`, `consent`, `forget`: what the lake holds about a person, and removing it."""

import json
import sys

import click

from stedi_assets.cli.common import (
    example,
    open_pipeline,
    refuse_while_runs_are_in_progress,
    run_catch_up,
    runs_in_progress,
)
from stedi_assets.errors import StediError


@click.command(epilog=example("stedi erase", "stedi erase --now"))
@click.option("--now", is_flag=True, help="Keep nothing, whatever STEDI_RETENTION_DAYS says.")
def erase(now: bool) -> None:
    """Bring membership up to date, compact, and remove files that left the tables.

    With --now nobody must be reading an older version of a table. Files of writes that were cut
    short go when they are six hours old; how many stay till then is said.
    """
    from datetime import timedelta

    from stedi_assets.privacy.vacuum import erase as erase_files

    pipeline = open_pipeline()
    run_catch_up(pipeline)
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


@click.command(epilog=example("stedi consent < email.txt"))
def consent() -> None:
    """What the lake holds about a person, and on what consent; the email from standard input."""
    from stedi_assets.privacy.forget import holdings

    email = _email()
    pipeline = open_pipeline()
    click.echo(json.dumps(holdings(pipeline, email), indent=2))


@click.command(epilog=example("stedi forget < email.txt"))
def forget() -> None:
    """Take a person out of everything, landed objects too; the email from standard input.

    Refused while a run is in progress in DAGSTER_HOME. An audit row stays: when, which command, how
    many rows; the person only as subject_id.
    """
    from datetime import timedelta

    from stedi_assets.privacy.forget import find, rows_of
    from stedi_assets.privacy.forget import forget as forget_person
    from stedi_assets.privacy.vacuum import erase as erase_files

    email = _email()
    pipeline = open_pipeline()
    refuse_while_runs_are_in_progress("stedi forget")
    run_catch_up(pipeline)
    person = find(pipeline, email)
    audit = forget_person(pipeline, person, "stedi forget")
    run_catch_up(pipeline)
    click.echo(erase_files(pipeline, timedelta(0)), err=True)
    click.echo(json.dumps(audit, indent=2))
    # What a run writes that had read before is marked stale, so the next catch-up takes it out.
    if any(rows_of(pipeline, person).values()) or runs_in_progress():
        raise StediError(
            "A run beside this one wrote rows of the person back, or may yet do so: when no run is"
            " in progress, `stedi erase --now` takes them out."
        )
