"""Asset checks: the checks of each table as one Dagster step, and for whole tables at once."""

import inspect
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import dagster as dg

from stedi_assets.defs.table_checks import Check, Days, Outcome, checks_of
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.lakehouse.dates import days_between
from stedi_assets.spark.errors import is_engine_error, redact_engine_errors
from stedi_assets.tables.schemas import TABLES, Table


def days_of_run(context: dg.AssetCheckExecutionContext) -> Days:
    """The ingest dates that a run writes; None: it has none, check everything."""
    if not context.has_partition_key and not context.has_partition_key_range:
        return None
    keys = context.partition_key_range
    return days_between(date.fromisoformat(keys.start), date.fromisoformat(keys.end))


def _outcome(check: Check, pipeline: Pipeline, table: Table, days: Days) -> Outcome:
    doing = f"The check {check.__name__} of {table.name}"
    with redact_engine_errors(doing):
        try:
            return check(pipeline, table, days)
        except Exception as error:
            if not is_engine_error(error):
                raise
            # Once in thousands of queries, on a busy machine, Sail forgets one that it runs ("task
            # context not found for operation"). A check only reads: it may ask again.
            return check(pipeline, table, days)


def outcomes(
    pipeline: Pipeline, table: Table, days: Days, names: Collection[str] | None = None
) -> dict[str, Outcome]:
    """The checks of a table (all, or those named) over some dates of it, at the same time."""
    checks = [c for c, _ in checks_of(table) if names is None or c.__name__ in names]
    with ThreadPoolExecutor(max(1, len(checks))) as pool:  # they mostly wait for the engine
        done = pool.map(lambda check: _outcome(check, pipeline, table, days), checks)
        return dict(zip([check.__name__ for check in checks], done, strict=True))


def _checks(table: Table) -> dg.AssetChecksDefinition:
    """All checks of a table as one step."""

    @dg.multi_asset_check(
        name=f"{table.name}_checks",
        specs=[
            dg.AssetCheckSpec(
                check.__name__,
                asset=table.name,
                description=inspect.getdoc(check),  # indented lines would be shown as code
                blocking=blocking,
            )
            for check, blocking in checks_of(table)
        ],
        can_subset=True,  # the UI can run one by itself
    )
    def run_checks(
        context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.AssetCheckResult]:
        names = {key.name for key in context.selected_asset_check_keys}
        for name, outcome in outcomes(pipeline, table, days_of_run(context), names).items():
            yield dg.AssetCheckResult(
                check_name=name,
                asset_key=table.name,
                passed=outcome.passed,
                severity=outcome.severity,
                metadata=outcome.counts,
            )

    return run_checks


asset_checks = [_checks(table) for table in TABLES.values()]


def evaluations(pipeline: Pipeline, table: Table, days: Days) -> list[dg.AssetCheckEvaluation]:
    """The checks of a table over some dates, as events for a run that is not of assets."""
    return [
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(table.name),
            check_name=name,
            passed=outcome.passed,
            severity=outcome.severity,
            metadata=outcome.counts,
        )
        for name, outcome in outcomes(pipeline, table, days).items()
    ]
