"""Once a day: a sweep that catches whatever the sensor missed, and the removal of old files."""

from datetime import date, timedelta

import dagster as dg
from pydantic import Field

from stedi_assets.defs.asset_checks import whole_table_evaluations
from stedi_assets.defs.assets.common import POOL
from stedi_assets.defs.jobs import build_and_report, materializations
from stedi_assets.errors import StediError
from stedi_assets.incremental.ledger import PartitionKey
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.planner import Reasons, downstream_out_of_date, landing_out_of_date
from stedi_assets.incremental.reconcile import BuiltTable
from stedi_assets.lakehouse.dates import days_between
from stedi_assets.landing.listing import list_landing
from stedi_assets.privacy.vacuum import erase
from stedi_assets.settings import today
from stedi_assets.tables.schemas import TABLES, Table

# Partitions of a table that a sweep reports at most: an event takes Dagster some 10 ms on SQLite,
# and a lake that begins years before its data has thousands of empty ones.
MAX_REPORTED = 150


@dg.op(pool=POOL, description="Builds what is out of date, then checks every table as a whole.")
def build_and_check_whole_tables(
    context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> None:
    """Build what is out of date and check every table as a whole; StediError where some failed."""
    wrong = build_and_report(context, pipeline)
    try:
        if reported := report_idle(context.instance, pipeline):
            context.log.info(f"Reported {reported} partitions without a run: nothing to build.")
    except StediError as error:
        wrong.append(str(error))
    # The tables that are there are checked also where some could not be built.
    errors = _check_whole_tables(context, pipeline)
    if errors:
        wrong.append(f"Checks of whole tables failed: {', '.join(errors)}.")
    if wrong:
        raise StediError(" ".join(wrong))


def _check_whole_tables(context: dg.OpExecutionContext, pipeline: Pipeline) -> list[str]:
    """Check and report every table as a whole; the checks that fail as an error."""
    errors = []
    for evaluation in whole_table_evaluations(pipeline):
        context.log_event(evaluation)  # type: ignore[arg-type] # taken, and not in the type
        name = f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}"
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR:
            errors.append(name)
        elif not evaluation.passed:
            context.log.warning(f"Check does not pass: {name}")
    return errors


def report_idle(instance: dg.DagsterInstance, pipeline: Pipeline) -> int:
    """Report the partitions that need no run and that Dagster does not know; how many.

    No run is requested for a date on which nothing landed, so its partitions would be missing for
    ever; reported with 0 rows, a missing partition always means work to do. What is to be built
    follows from the lake alone, so an object that lands there later is run as ever. Today is still
    open. The newest MAX_REPORTED of a table are reported, the others by the next sweeps.
    """
    days = days_between(pipeline.settings.first_ingest_date, today() - timedelta(1))
    missing: dict[str, list[date]] = {}
    for table in TABLES.values():
        if table.partitioned and pipeline.lakehouse.log(table) is not None:
            known = instance.get_materialized_partitions(dg.AssetKey(table.name))
            missing[table.name] = [day for day in days if day.isoformat() not in known]
    if not any(missing.values()):
        return 0
    stale = _out_of_date(pipeline)
    to_build = {day for reasons in stale.values() for day in reasons if day}
    reported = 0
    for table in TABLES.values():
        # Tables without dates are reported with the others: they are as fresh.
        keys: list[PartitionKey] = [] if table.partitioned or table.name in stale else [None]
        keys += [d for d in missing.get(table.name, ()) if d not in to_build][-MAX_REPORTED:]
        reported += _report(instance, pipeline, table, keys)
    return reported


def _out_of_date(pipeline: Pipeline) -> dict[str, Reasons]:
    """What is out of date now, of all tables, also where a landing table is."""
    pipeline.refresh()
    listing = list_landing(pipeline.lakehouse.store)
    landing = landing_out_of_date(pipeline.state(with_membership=False), listing)
    return landing | downstream_out_of_date(pipeline.state())


def _report(
    instance: dg.DagsterInstance, pipeline: Pipeline, table: Table, keys: list[PartitionKey]
) -> int:
    log = pipeline.lakehouse.log(table)
    if log is None or not keys:
        return 0
    why: Reasons = {key: "up to date" if log.of(key) else "nothing landed" for key in keys}
    for event in materializations(pipeline, BuiltTable(table, why, log)):
        instance.report_runless_asset_event(event)
    return len(keys)


class Maintenance(dg.Config):
    """What the launchpad asks of a run of maintenance."""

    retention_days: int | None = Field(
        default=None,
        ge=0,
        description="Files that left a table so many days ago are erased; 0: all that left one."
        " Default: STEDI_RETENTION_DAYS.",
    )


@dg.op(
    pool=POOL,
    description="Builds what is out of date, compacts, and removes files that left the tables"
    " before the retention.",
)
def erase_old_files(
    context: dg.OpExecutionContext, config: Maintenance, pipeline: dg.ResourceParam[Pipeline]
) -> None:
    """Compact tables, erase files that are gone long enough; StediError where some of it failed."""

    def catch_up() -> None:
        if failed := build_and_report(context, pipeline):
            raise StediError(" ".join(failed))

    days = config.retention_days
    days = pipeline.settings.retention_days if days is None else days
    result = erase(pipeline, catch_up, timedelta(days))
    context.log.info(str(result))
    if result.problems:
        raise StediError(" ".join(result.problems))


@dg.job(description="What the sensor would do, over everything that ever landed, and all checks.")
def daily_sweep() -> None:
    """The job of `build_and_check_whole_tables`."""
    build_and_check_whole_tables()


@dg.job(description="Vacuums every table, compacts those past landing; see STEDI_RETENTION_DAYS.")
def maintenance() -> None:
    """The job of `erase_old_files`."""
    erase_old_files()


schedules = [
    dg.ScheduleDefinition(
        job=daily_sweep,
        cron_schedule="0 2 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Catches what the sensor missed, over everything that ever landed, and checks"
        " every table as a whole.",
    ),
    dg.ScheduleDefinition(
        job=maintenance,
        cron_schedule="0 4 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compacts what is past landing; erases files gone for STEDI_RETENTION_DAYS.",
    ),
]
