"""How old a zone's tables may be before the UI warns: every ingest date brings them up to date."""

from datetime import timedelta

import dagster as dg

# Every table is brought up to date at least once a day: by the landing sensor where data landed,
# else by the daily sweep, which reports that nothing did. That nothing lands any more is what the
# check `newest_ingest_date_is_recent` says.
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
