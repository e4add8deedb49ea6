"""The suites of the embedded engine, run again on Apache Spark: the same tests, the same tables."""

# ruff: noqa: F401
from stedi_assets_tests.test_io_manager import (
    manager,
    test_a_materialization_tells_counts_version_size_and_a_masked_preview,
    test_a_partition_with_no_rows_becomes_empty,
    test_a_range_run_tells_a_count_for_every_partition,
    test_a_row_outside_the_dates_is_refused_by_its_date_and_nothing_is_written,
    test_a_table_never_materialized_says_which_asset_to_materialize,
    test_a_write_replaces_just_its_dates,
    test_columns_that_differ_from_the_contract_are_named,
    test_concurrent_writes_to_neighbouring_and_the_same_dates_all_succeed,
    test_no_personal_value_of_the_data_is_in_any_event,
)
from stedi_assets_tests.test_tables import (
    test_a_range_run_over_odd_data_gives_the_reference_tables,
    test_plain_data_on_one_date_takes_the_fast_way_and_gives_the_reference_tables,
)
