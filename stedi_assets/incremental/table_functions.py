"""The tables' functions with the settings that they take: one mapping for assets and refresh."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from stedi_assets.settings import Settings
from stedi_assets.tables import curated, landing, trusted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

TableFunction = Callable[..., "DataFrame"]


def table_functions(settings: Settings) -> dict[str, TableFunction]:
    """Table -> its function, which takes the upstream tables' DataFrames by name."""
    return {
        "customer_landing": landing.customer_landing,
        "accelerometer_landing": landing.accelerometer_landing,
        "step_trainer_landing": landing.step_trainer_landing,
        "customer_trusted": trusted.customer_trusted,
        "accelerometer_trusted": partial(
            trusted.accelerometer_trusted, consent_scope=settings.consent_scope
        ),
        "customers_curated": curated.customers_curated,
        "step_trainer_trusted": trusted.step_trainer_trusted,
        "machine_learning_curated": partial(curated.machine_learning_curated, salt=settings.salt()),
    }
