"""Once a day: a sweep that catches whatever the sensor missed, and the removal of old files."""

from datetime import timedelta

import dagster as dg

from stedi_assets.defs.asset_checks import failing_checks
from stedi_assets.defs.assets.common import POOL
from stedi_assets.defs.jobs import build_and_report
from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.privacy.vacuum import erase


@dg.op(pool=POOL, description="Builds what is out of date, then checks every table as a whole.")
def build_and_check_whole_tables(
    context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> None:
    """Build what is out of date and check every table as a whole; StediError where some failed."""
    wrong = build_and_report(context, pipeline)
    # The tables that are there are checked also where some could not be built.
    errors, warnings = failing_checks(pipeline)
    for name in warnings:
        context.log.warning(f"Check does not pass: {name}")
    if errors:
        wrong.append(f"Checks of whole tables failed: {', '.join(errors)}.")
    if wrong:
        raise StediError(" ".join(wrong))


@dg.op(
    pool=POOL,
    description="Builds what is out of date, compacts, and removes files that left the tables"
    " before the retention.",
)
def erase_old_files(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    """Compact tables, erase files that are gone long enough; StediError where some of it failed."""

    def catch_up() -> None:
        if failed := build_and_report(context, pipeline):
            raise StediError(" ".join(failed))

    result = erase(pipeline, catch_up, timedelta(pipeline.settings.retention_days))
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
