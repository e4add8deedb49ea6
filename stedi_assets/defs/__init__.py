"""Everything that is Dagster: assets, checks, IO managers, jobs, sensors, schedules."""
