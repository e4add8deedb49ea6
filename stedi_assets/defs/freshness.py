"""How old a zone's tables may be before the UI warns: every ingest date brings them up to date."""

from datetime import timedelta

import dagster as dg

# The landing sensor and the daily sweep run every table at least once a day on which data landed.
BY_ZONE = {
    "landing": dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=48), warn_window=timedelta(hours=26)
    ),
    "trusted": dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=49), warn_window=timedelta(hours=27)
    ),
    "curated": dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=50), warn_window=timedelta(hours=28)
    ),
}
