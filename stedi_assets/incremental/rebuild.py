"""`stedi rebuild`: drop what was computed, keep what landed."""

from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.tables.schemas import TABLES

# Who was forgotten, when and by which command; what an order that is unfinished needs, since nobody
# could find the person's readings again; and whether what landed is a sample.
_KEPT = ("_stedi/audit/", "_stedi/unfinished_forget/", "_stedi/sample.json")


def drop_tables(lake: ObjectStore) -> None:
    """Drop all tables and the lake's stored settings. Landed objects and audit rows are kept.

    Whoever knows the tables' earlier versions (a daemon) has to be started again.

    Raises:
        StediError: S3 refuses to list or delete.
    """
    for table in TABLES.values():
        lake.delete_below(f"{table.path}/")
    stored = [entry["Key"] for entry in lake.objects("_stedi/")]
    lake.delete([key for key in stored if not key.startswith(_KEPT)])
