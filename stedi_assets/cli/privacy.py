"""`stedi consent`, `forget`, `audit`, `erase`: what the lake holds about a person, and its end."""

import json
import sys
from typing import Any

import click

from stedi_assets.cli.common import (
    catch_up_without_new_dates,
    example,
    open_checked_lake,
    open_pipeline,
    run_catch_up,
    runs_in_progress,
    warn,
)
from stedi_assets.cli.output import cell
from stedi_assets.errors import StediError


@click.command(epilog=example("stedi erase", "stedi erase --now"))
@click.option("--now", is_flag=True, help="Keep nothing, whatever STEDI_RETENTION_DAYS says.")
def erase(now: bool) -> None:
    """Take out of the tables who withdrew, compact, and remove files that left the tables.

    New dates are not built: `stedi catch-up` does that.

    With --now nobody must be reading an older version of a table. Files of writes that were cut
    short go when they are six hours old; how many stay till then is said. Uploads that were cut
    short are ended when they are a day old. What cannot be done holds up nothing else: it is named,
    and the exit code is 1.
    """
    from datetime import timedelta

    from stedi_assets.privacy.vacuum import erase as erase_files

    pipeline = open_pipeline()
    retention = timedelta(0 if now else pipeline.settings.retention_days)
    result = erase_files(pipeline, lambda: catch_up_without_new_dates(pipeline), retention)
    click.echo(result)
    for warning in result.warnings:
        warn(warning)
    _fail_with(result.problems)


def _fail_with(problems: list[str]) -> None:
    """Each problem in a line on stderr, and exit code 1 where there are any."""
    for problem in problems[:-1]:
        warn(problem)
    if problems:
        raise StediError(problems[-1])


def _address() -> str:
    """The email, from standard input or a prompt that does not show it; never an argument."""
    from stedi_assets.privacy.address_search import identity, is_address

    if sys.stdin is None:  # closed by whoever started the command
        raise StediError("There is no standard input: give the email on it.")
    try:
        if sys.stdin.isatty():
            typed = str(click.prompt("Email", hide_input=True))
            typed.encode()  # what is not UTF-8 is an error here, too, or half a character
        else:
            # PowerShell's pipe puts a byte-order mark before what it sends.
            typed = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeError:
        raise StediError("Standard input is not UTF-8: give the email as UTF-8.") from None
    email = identity(typed)
    if not is_address(email):
        warn("That is not one email address: only who is recorded by exactly this is looked for.")
    return email


@click.command(epilog=example("stedi consent < email.txt"))
def consent() -> None:
    """What the lake holds about a person, and on what consent; the email from standard input.

    It counts the rows of tables, as they are now: what landed since they were built, or in objects
    that no table takes in, is not among them. `stedi forget` searches the objects as well.
    """
    from stedi_assets.privacy.subject_access import subject_access_report

    email = _address()
    pipeline = open_pipeline()
    click.echo(json.dumps(subject_access_report(pipeline.lakehouse, email), indent=2))


@click.command(epilog=example("stedi forget", "stedi forget --yes < email.txt"))
@click.option("--yes", is_flag=True, help="Do not ask; with the email from a pipe nobody is asked.")
def forget(yes: bool) -> None:
    """Take a person out of everything, landed objects too; the email from standard input.

    Refused while a run is in progress in DAGSTER_HOME. An audit row stays (`stedi audit`): when,
    which command, how many rows, the person only as subject_id. What cannot be done holds up
    nothing else: it is named, the exit code is 1, and the command can be repeated.
    """
    from stedi_assets.privacy.forget import forget as forget_person

    email = _address()
    pipeline = open_pipeline()
    if not yes and sys.stdin.isatty():
        click.confirm(
            f"Delete all records of this person from {pipeline.settings.lake}, landed objects too,"
            " for good?",
            abort=True,
        )
    forgotten = forget_person(
        pipeline,
        email,
        lambda: catch_up_without_new_dates(pipeline),
        lambda: run_catch_up(pipeline),
        runs_in_progress,
    )
    click.echo(forgotten.purge, err=True)
    for warning in forgotten.purge.warnings:
        warn(warning)
    for key in forgotten.audit["objects_named_after_the_person"]:
        warn(f"The key of an object holds the address: rename or delete {key}")
    for key, reason in sorted(forgotten.audit["reasons"].items()):
        warn(f"May still hold the person: {key}: {reason}")
    click.echo(json.dumps(forgotten.audit, indent=2))
    _fail_with(forgotten.problems)


@click.command(epilog=example("stedi audit", "stedi audit --json"))
@click.option("--json", "as_json", is_flag=True, help="As a JSON list, with every field.")
def audit(as_json: bool) -> None:
    """Who was forgotten (as subject_id), when, by which command, and how many rows that were."""
    from stedi_assets.privacy.audit import audit_rows

    rows = audit_rows(open_checked_lake())
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        _print_audit(rows)
    else:
        click.echo("Nobody was forgotten in this lake.")


def _print_audit(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("when (UTC)", "command", "subject_id", "rows", "not searched", "completed")
    for row in rows:
        cells = (
            row["when"].removesuffix("+00:00").replace("T", " "),
            row["command"],
            row["subject_id"][:24],
            f"{sum(row.get('rows', {}).values()):,}",
            len(row.get("unreadable_objects", ())),
            "yes" if row.get("completed", True) else "no",
        )
        table.add_row(*(Text(cell(value)) for value in cells))  # text: not rich's markup
    Console(width=None if sys.stdout.isatty() else 120).print(table)
