"""The ingest dates: one partition a day (UTC), from the lake's first date to today."""

import warnings

import dagster as dg

from stedi_assets.settings import load_settings

# `backfill_policy` is "beta" in Dagster; the lock file holds its version.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

INGEST_DATES = dg.DailyPartitionsDefinition(
    start_date=load_settings().first_ingest_date.isoformat(), end_offset=1
)
