"""Registers the lake's tables in a Glue database, and changes there only what `sync` made."""

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from stedi_assets.aws import aws_client, translate_aws_errors
from stedi_assets.catalog.table_input import MANAGED_BY, table_inputs
from stedi_assets.errors import StediError
from stedi_assets.settings import Settings
from stedi_assets.tables.schemas import TABLES

if TYPE_CHECKING:
    from stedi_assets.lakehouse.tables import Lakehouse

NOT_OURS = "not ours"
_CHECK = "STEDI_GLUE_DATABASE, AWS_REGION, and that the keys may do this"


def sync(glue: Any, database: str, settings: Settings, written: Collection[str]) -> dict[str, str]:
    """Make the entries of a Glue database equal to the lake's tables; repeating changes nothing.

    Args:
        glue: a boto3 Glue client.
        database: the Glue database, which must exist; of one lake only.
        settings: where the lake lies.
        written: the names of the Delta tables that exist. An entry without a table behind it
            would fail every query, so others wait; what is registered already stays.

    Returns:
        What was done, by table: `created`, `updated`, `unchanged`, `not written yet`, or
        `not ours` where a table of that name was made by somebody else and is left alone.

    Raises:
        StediError: Glue refuses, or there is no such database.
    """
    _check_database(glue, database)
    outcomes = {}
    for name, table_input in table_inputs(settings).items():
        if name in TABLES and name not in written:
            outcomes[name] = "not written yet"
            continue
        with translate_aws_errors("Glue", f"registering {database}.{name}", _CHECK):
            outcomes[name] = _sync_table(glue, database, table_input)
    return outcomes


def sync_lake(lakehouse: "Lakehouse") -> dict[str, str]:
    """`sync` of the lake and the database that the settings name (`STEDI_GLUE_DATABASE`).

    Raises:
        StediError: no database is named, the lake is the embedded one, or as of `sync`.
    """
    settings = lakehouse.store.settings
    if settings.glue_database is None:
        raise StediError(
            "STEDI_GLUE_DATABASE is not set: say which Glue database (docs/athena.md)."
        )
    if settings.embedded and not os.environ.get("AWS_ENDPOINT_URL_GLUE"):
        raise StediError("The embedded lake has no Glue catalogue: set STEDI_LAKE to one on AWS.")
    lakehouse.refresh(TABLES.values())  # at the same time, where `log` reads one after another
    written = {name for name, table in TABLES.items() if lakehouse.log(table) is not None}
    return sync(aws_client("glue", settings.region), settings.glue_database, settings, written)


def _check_database(glue: Any, database: str) -> None:
    with translate_aws_errors("Glue", f"looking for the database {database}", _CHECK):
        try:
            glue.get_database(Name=database)
        except glue.exceptions.EntityNotFoundException:
            raise StediError(
                f"There is no Glue database {database}: create it, or correct STEDI_GLUE_DATABASE."
            ) from None


def _sync_table(glue: Any, database: str, table_input: dict[str, Any]) -> str:
    existing = _get_table(glue, database, table_input["Name"])
    if existing is None:
        try:
            glue.create_table(DatabaseName=database, TableInput=table_input)
        except glue.exceptions.AlreadyExistsException:  # by another run, a moment ago
            return _sync_table(glue, database, table_input)
        return "created"
    if not MANAGED_BY.items() <= existing.get("Parameters", {}).items():
        return NOT_OURS
    if _holds(existing, table_input):
        return "unchanged"
    # Engines keep statistics of their own in the parameters.
    parameters = existing["Parameters"] | table_input["Parameters"]
    glue.update_table(
        DatabaseName=database,
        TableInput=table_input | {"Parameters": parameters},
        SkipArchive=True,  # Glue keeps a number of versions of a table, and bills them
    )
    return "updated"


def _get_table(glue: Any, database: str, name: str) -> dict[str, Any] | None:
    try:
        table: dict[str, Any] = glue.get_table(DatabaseName=database, Name=name)["Table"]
    except glue.exceptions.EntityNotFoundException:
        return None
    return table


def _holds(existing: Any, wanted: Any) -> bool:
    """Whether an entry has every value that we set; Glue adds fields of its own."""
    if isinstance(wanted, dict):
        existing = existing or {}
        return all(_holds(existing.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        existing = existing or []
        return len(existing) == len(wanted) and all(map(_holds, existing, wanted))
    return bool(existing == wanted)
