"""`stedi materialize`: `dagster asset materialize` over the whole graph for what is out of date."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import date

from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.reconcile import MAX_ROUNDS, find_out_of_date
from stedi_assets.lakehouse.dates import contiguous_ranges, days_between
from stedi_assets.lakehouse.query import table_figures
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.landing.diagnosis import diagnose, warnings_of
from stedi_assets.landing.layout import landed_dates
from stedi_assets.settings import today
from stedi_assets.tables.schemas import TABLES


def materialize_landed(pipeline: Pipeline, say: Callable[[str], None]) -> list[date]:
    """Materialize every table for the ingest dates that are out of date, range by range.

    Args:
        pipeline: over the lake that this process's settings name.
        say: takes a line about each step.

    Returns:
        The landed dates outside the partition range, which no table takes in.

    Raises:
        StediError: nothing has landed; or ranges failed, after all others were done: their logs
            are on standard error.
    """
    store, settings = pipeline.lakehouse.store, pipeline.settings
    dates_by_entity = landed_dates(store.client, settings.bucket, settings.prefix)
    landed = {day for days in dates_by_entity.values() for day in days}
    inside, outside = split_dates(landed, settings.first_ingest_date, today())
    if not inside:
        raise StediError("Nothing has landed yet: land some objects with `stedi land SOURCE`.")
    failed: dict[date, str] = {}
    for done in range(MAX_ROUNDS):
        # What one round builds can make other dates out of date: a withdrawal does.
        found, _ = find_out_of_date(pipeline)
        # What landed first: the others depend on it, and a bad date of theirs holds up none of it.
        stale = {name: found[name] for name in found if TABLES[name].zone == "landing"} or found
        days = {day for reasons in stale.values() for day in reasons if day}
        # A table without dates is built by a run over any.
        wanted, _ = split_dates(days or inside[-1:], settings.first_ingest_date, today())
        ranges = contiguous_ranges(set(wanted).difference(failed)) if stale else []
        if not ranges:
            if failed:
                raise StediError(" ".join(dict.fromkeys(failed.values())))
            if not done:
                say(
                    "What is out of date is of no partition: `stedi catch-up` puts it right."
                    if stale
                    else "All tables are up to date: nothing to materialize."
                )
            return outside
        for number, (first, last) in enumerate(ranges, 1):
            say(f"Materializing {first} to {last} (range {number} of {len(ranges)}) …")
            pipeline.lakehouse.drop_local_files()  # of people, and the run may take hours
            try:
                _materialize(first, last)
            except StediError as error:
                failed |= dict.fromkeys(days_between(first, last), str(error))
    raise StediError(f"Still out of date after {MAX_ROUNDS} rounds: data lands all the time.")


def _materialize(first: date, last: date) -> None:
    # Dagster's warnings about its own interfaces tell a user nothing.
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    if subprocess.run(dagster_command(first, last), env=environ).returncode:
        raise StediError(
            f"The run over {first} to {last} failed; its log is above. `stedi catch-up` builds what"
            " can be built of it."
        )


def landing_warnings(lakehouse: Lakehouse) -> list[str]:
    """Lines that say which tables are empty, and why most of what landed is malformed.

    They hold no value of a record.
    """
    figures = table_figures(lakehouse)
    return warnings_of(
        {table.table: table.rows for table in figures},
        {table.table: table.malformed for table in figures},
        lambda entity: diagnose(lakehouse.read(TABLES[f"{entity.name}_landing"]), entity),
    )


def split_dates(dates: Iterable[date], first: date, last: date) -> tuple[list[date], list[date]]:
    """The dates from first to last, both included, and the others; each in order."""
    ordered = sorted(set(dates))
    inside = [day for day in ordered if first <= day <= last]
    return inside, [day for day in ordered if day not in inside]


def dagster_command(first: date, last: date) -> list[str]:
    """The command that materializes all tables for a range of dates, with a quiet console."""
    console = json.dumps({"loggers": {"console": {"config": {"log_level": "WARNING"}}}})
    command = [sys.executable, "-m", "dagster", "asset", "materialize"]
    command += ["-m", "stedi_assets.definitions", "--select", "*"]
    return [*command, "--partition-range", f"{first}...{last}", "--config-json", console]
