"""Once a day: a sweep that catches whatever the sensor missed, and the erasing of old files."""

from datetime import timedelta

import dagster as dg

from stedi_assets.defs.asset_checks import failing_checks
from stedi_assets.defs.io_managers import DeltaIOManager
from stedi_assets.errors import StediError
from stedi_assets.incremental.reconcile import catch_up, run_here
from stedi_assets.privacy.vacuum import erase


@dg.op(description="Catches up, then checks every table as a whole.")
def catch_up_and_check(
    context: dg.OpExecutionContext, io_manager: dg.ResourceParam[DeltaIOManager]
) -> None:
    from stedi_assets.definitions import defs

    wrong: list[str] = []
    try:
        runs = catch_up(io_manager, run_here(defs, context.instance), context.log.info)
        context.log.info(f"Caught up, in {runs} runs.")
    except StediError as error:  # the tables that are there are checked all the same
        wrong.append(str(error))
        context.log.error(str(error))
    errors, warnings = failing_checks(io_manager)
    for name in warnings:
        context.log.warning(f"Check does not pass: {name}")
    if errors:
        wrong.append(f"Checks of whole tables failed: {', '.join(errors)}.")
    if wrong:
        raise StediError(" ".join(wrong))


@dg.op(
    description="Catches up, compacts, and removes files that left the tables before the retention."
)
def erase_old_files(
    context: dg.OpExecutionContext, io_manager: dg.ResourceParam[DeltaIOManager]
) -> None:
    from stedi_assets.definitions import defs

    def bring_up_to_date() -> int:
        return catch_up(io_manager, run_here(defs, context.instance), context.log.info)

    retention = timedelta(io_manager.lake.settings.retention_days)
    result = erase(io_manager, bring_up_to_date, retention)
    context.log.info(str(result))
    if result.problems:
        raise StediError(" ".join(result.problems))


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
