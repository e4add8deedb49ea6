"""The ingest dates: one partition a day (UTC), from the lake's first date to today."""

import warnings

import dagster as dg

from stedi_assets.settings import load_settings

# `backfill_policy` and the mapping below are "beta" in Dagster; the lock file holds its version.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

INGEST_DATES = dg.DailyPartitionsDefinition(
    start_date=load_settings().first_ingest_date.isoformat(), end_offset=1
)

# What a partition reads of a table of readings upstream: every day up to and including its own, of
# which `incremental/inputs.py` reads only the rows that can matter.
UP_TO_THE_DAY = dg.AssetIn(
    partition_mapping=dg.TimeWindowPartitionMapping(
        start_offset=-36500, allow_nonexistent_upstream_partitions=True
    )
)
ALL_DATES = dg.AssetIn(partition_mapping=dg.AllPartitionMapping())
