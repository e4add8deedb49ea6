"""Once a day: a sweep that catches whatever the sensor missed, and the removal of old files."""

from datetime import timedelta

import dagster as dg

from stedi_assets.defs.asset_checks import failing_checks
from stedi_assets.defs.assets.common import POOL
from stedi_assets.defs.jobs import run_here
from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.reconcile import catch_up
from stedi_assets.privacy.vacuum import erase


@dg.op(pool=POOL, description="Catches up, then checks every table as a whole.")
def catch_up_and_check(
    context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> None:
    from stedi_assets.definitions import build_definitions

    wrong: list[str] = []
    run = run_here(build_definitions(pipeline), context.instance)
    try:
        runs = catch_up(pipeline, run, context.log.info)
        context.log.info(f"Caught up, in {runs} runs.")
    except StediError as error:  # the tables that are there are checked all the same
        wrong.append(str(error))
        context.log.error(str(error))
    errors, warnings = failing_checks(pipeline)
    for name in warnings:
        context.log.warning(f"Check does not pass: {name}")
    if errors:
        wrong.append(f"Checks of whole tables failed: {', '.join(errors)}.")
    if wrong:
        raise StediError(" ".join(wrong))


@dg.op(
    pool=POOL, description="Compacts, and removes files that left the tables before the retention."
)
def erase_old_files(context: dg.OpExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> None:
    context.log.info(str(erase(pipeline, timedelta(pipeline.settings.retention_days))))


@dg.job(description="What the sensor would do, over everything that ever landed, and all checks.")
def daily_sweep() -> None:
    catch_up_and_check()


@dg.job(description="Vacuums every table, compacts those past landing; see STEDI_RETENTION_DAYS.")
def maintenance() -> None:
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
