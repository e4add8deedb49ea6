"""Once a day: a sweep that catches whatever the sensor missed, and the removal of old files."""

from datetime import timedelta

import dagster as dg
from pydantic import Field

from stedi_assets.defs.assets.common import POOL
from stedi_assets.defs.idle_partitions import report_idle_partitions
from stedi_assets.defs.jobs import build_and_report, check_tables, report_checks
from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.privacy.vacuum import erase
from stedi_assets.tables.schemas import TABLES


@dg.op(pool=POOL, description="Builds what is out of date, then checks every table as a whole.")
def build_and_check_whole_tables(
    context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> None:
    """Build what is out of date and check every table as a whole; StediError where some failed."""
    wrong = build_and_report(context, pipeline)
    try:
        if reported := report_idle_partitions(context.instance, pipeline):
            context.log.info(f"Reported {reported} partitions without a run: nothing to build.")
    except StediError as error:
        wrong.append(str(error))
    # The tables that are there are checked also where some could not be built.
    there = [name for name, table in TABLES.items() if pipeline.lakehouse.log(table) is not None]
    wrong += report_checks(context, check_tables(pipeline, dict.fromkeys(there)))
    if wrong:
        raise StediError(" ".join(wrong))


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
    description="Brings what was built before up to date, compacts, and removes files that left the"
    " tables before the retention.",
)
def erase_old_files(
    context: dg.OpExecutionContext, config: Maintenance, pipeline: dg.ResourceParam[Pipeline]
) -> None:
    """Compact tables, erase files that are gone long enough; StediError where some of it failed."""

    def catch_up_without_new_dates() -> None:
        if failed := build_and_report(context, pipeline, without_new_dates=True):
            raise StediError(" ".join(failed))

    days = config.retention_days
    days = pipeline.settings.retention_days if days is None else days
    result = erase(pipeline, catch_up_without_new_dates, timedelta(days))
    context.log.info(str(result))
    for warning in result.warnings:
        context.log.warning(warning)
    if result.problems:
        raise StediError(" ".join(result.problems))


@dg.job(description="What the sensor would do, over everything that ever landed, and all checks.")
def daily_sweep() -> None:
    """The job of `build_and_check_whole_tables`."""
    build_and_check_whole_tables()


@dg.job(
    description="Takes out who withdrew, compacts tables past landing, and vacuums every table; see"
    " STEDI_RETENTION_DAYS."
)
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
