"""What the commands share: the group, examples in the help, opening the lake, refusals."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stedi_assets.errors import RunInProgressError, SettingsError, StediError
from stedi_assets.escapes import may_hold_address
from stedi_assets.scratch import delete_leftovers
from stedi_assets.settings import dagster_home, load_settings, today

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from stedi_assets.incremental.planner import PlannedRun


@contextmanager
def _translate_output_errors() -> Iterator[None]:
    """Raise what keeps standard output from taking a command's text as a StediError."""
    try:
        yield
        if sys.stdout is not None:  # closed by whoever started the command
            sys.stdout.flush()
    except UnicodeEncodeError as error:
        if (sys.stdout.encoding or "").lower().startswith("utf"):
            raise
        raise StediError(
            f"The output's encoding, {sys.stdout.encoding}, does not hold every character of it:"
            " set PYTHONIOENCODING=utf-8."
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise  # a pipe that nobody reads is click's
        with suppress(OSError), open(os.devnull, "w") as nothing:
            # What is left in the buffer would fail again when Python ends.
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        raise StediError(f"The output cannot be written: {error.strerror}.") from error


@contextmanager
def _without_addresses() -> Iterator[None]:
    """Where an address was typed in the wrong place, the message does not repeat it: it is logged
    where a scheduler runs the command."""

    def shown(text: str) -> str:
        return re.sub(r"\S+", lambda word: "…" if may_hold_address(word[0]) else word[0], text)

    try:
        yield
    except click.UsageError as error:
        message = error.format_message()
        if shown(message) == message:
            raise
        raise click.UsageError(shown(message), error.ctx) from None


class CommandGroup(click.Group):
    """Commands whose StediError is one line on stderr and exit code 1."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """The context of what was typed; a usage error shows no address that was."""
        with _without_addresses():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that `ctx` names; first, what a killed process left goes."""
        delete_leftovers()
        try:
            with _translate_output_errors(), _without_addresses():
                return super().invoke(ctx)
        except StediError as error:
            click.echo(f"stedi: {error}", err=True)
            ctx.exit(1)


def example(*commands: str) -> str:
    """The end of a command's `--help`: what to type, one command a line, never wrapped."""
    return "\b\nExample:\n" + "\n".join(f"  {command}" for command in commands)


def warn(message: str) -> None:
    """Print a message on stderr, as all messages of `stedi` look there."""
    click.echo(f"stedi: {message}", err=True)


def date_option(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """The callback of an option that is a date (YYYY-MM-DD); None where it is not given."""
    from stedi_assets.landing.layout import parse_date

    day = parse_date(value) if value is not None else None
    if value is not None and day is None:
        raise click.BadParameter(f"{value!r} is not a date: write it as 2022-06-18.")
    return day


def open_checked_lake() -> Any:
    """The lake that the settings name; StediError where it does not answer or fit them."""
    from stedi_assets.lakehouse.object_store import open_store

    lake = open_store(load_settings())
    lake.check()
    return lake


def open_lakehouse() -> Any:
    """The tables of the lake that the settings name; StediError as `open_checked_lake`."""
    from stedi_assets.lakehouse.tables import Lakehouse
    from stedi_assets.spark.session import SparkSessions

    return Lakehouse(open_checked_lake(), SparkSessions())


def open_pipeline() -> Any:
    """The pipeline over the lake that the settings name; StediError as `open_checked_lake`."""
    from stedi_assets import definitions

    open_checked_lake()
    settings = load_settings()
    ours = definitions.pipeline
    return ours if ours.settings == settings else definitions.build_pipeline(settings)


def warn_outside_partitions(day: date, first: date) -> None:
    """Say that an ingest date is outside the partition range, which starts with `first`."""
    warn(
        f"ingest_date={day} lies before STEDI_FIRST_INGEST_DATE ({first}) or after today"
        f" ({today()}, UTC): no table takes its objects in."
    )


def run_catch_up(pipeline: Any) -> int:
    """Catch up in this process, as `stedi catch-up` does; how many runs it took."""
    from stedi_assets.incremental import reconcile

    with _runs_here(pipeline) as (run, is_recorded):
        return reconcile.catch_up(pipeline, run, lambda s: click.echo(s, err=True), is_recorded)


def catch_up_without_new_dates(pipeline: Any) -> None:
    """Bring up to date what was built before, in this process."""
    from stedi_assets.incremental import reconcile

    with _runs_here(pipeline) as (run, _):
        reconcile.catch_up_without_new_dates(pipeline, run, lambda s: click.echo(s, err=True))


@contextmanager
def _runs_here(pipeline: Any) -> "Iterator[tuple[Callable[[PlannedRun], None], bool]]":
    """What does a run in this process, and whether runs are recorded."""
    from stedi_assets import definitions
    from stedi_assets.defs.jobs import run_here

    is_ours = pipeline is definitions.pipeline
    defs = definitions.defs if is_ours else definitions.build_definitions(pipeline)
    with dagster_instance() as instance:
        yield run_here(defs, instance), not instance.is_ephemeral


@contextmanager
def dagster_instance() -> "Iterator[DagsterInstance]":
    """Dagster's instance of DAGSTER_HOME; one in memory where none is set.

    Also, with a warning, where its database cannot be read: nothing of the lake follows from it,
    and nobody's withdrawal waits for it. SettingsError where dagster.yaml is wrong: then the runs
    that are in progress are somewhere else.
    """
    import dagster as dg

    home = dagster_home()
    with ExitStack() as stack:
        try:
            if home is None:
                instance = stack.enter_context(dg.DagsterInstance.ephemeral())
            else:
                instance = stack.enter_context(_open_instance(home))
                instance.get_runs(limit=1)
                instance.all_asset_keys()
        except SettingsError:
            raise
        except Exception as error:  # of whichever database
            warn(
                f"Dagster's database of DAGSTER_HOME={home} cannot be read"
                f" ({type(error).__name__}): what this command runs is not recorded there. Restore"
                " it, or, where it is SQLite, delete the folders history and schedules."
            )
            instance = stack.enter_context(dg.DagsterInstance.ephemeral())
        yield instance


def _open_instance(home: Path) -> "DagsterInstance":
    """Dagster's instance of a home; SettingsError where its dagster.yaml is wrong."""
    import dagster as dg
    from dagster._check import CheckError
    from dagster._core.errors import DagsterInvalidConfigError
    from dagster._core.instance.config import dagster_instance_config

    file = home / "dagster.yaml"
    is_read = not file.exists()
    try:
        if not is_read:
            dagster_instance_config(str(home))  # it asks no database yet
            is_read = True
        return dg.DagsterInstance.get()
    except Exception as error:
        if is_read and not isinstance(error, DagsterInvalidConfigError | CheckError | ImportError):
            raise
        # Not its text: that quotes the value, which may be a password.
        raise SettingsError(
            f"{file} is wrong ({type(error).__name__}): correct it. `dagster instance info` says"
            " where."
        ) from None


def runs_in_progress() -> list[str]:
    """The ids of the runs that DAGSTER_HOME knows to be in progress; of dead ones none."""
    import dagster as dg

    from stedi_assets.defs.liveness import is_silent

    status = dg.DagsterRunStatus
    in_progress = dg.RunsFilter(statuses=[status.STARTING, status.STARTED, status.CANCELING])
    with dagster_instance() as instance:
        runs = instance.get_runs(in_progress)
        return [run.run_id for run in runs if not is_silent(instance, run)]


def refuse_while_runs_are_in_progress(command: str) -> None:
    """StediError where a run is in progress that would write at the same time as `command`."""
    for run in runs_in_progress():
        raise RunInProgressError(run, command)
