"""Empties partitions that are not built now and may hold rows of people who are not in any more.

Of what could not be built, or what the process died on (docs/decisions/0009): nobody who withdrew
waits until it can be. No row is read, so nothing in a partition can keep it from being emptied; and
nothing is entered into the ledger, so it is out of date until it is built.
"""

from collections.abc import Collection

from stedi_assets.incremental.ledger import PartitionKey
from stedi_assets.incremental.partition_inputs import Inputs, LakeState, inputs_of
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.planner import out_of_date
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.spark.errors import redact_engine_errors
from stedi_assets.tables.schemas import Table, spark_schema


def empty(
    pipeline: Pipeline, table: Table, keys: Collection[PartitionKey]
) -> frozenset[PartitionKey]:
    """Empty those of some partitions that are out of date and may hold people who are not in.

    table: past the landing zone. Which were emptied, in one commit; StediError where S3 or the
    engine fails.
    """
    lakehouse = pipeline.lakehouse
    with redact_engine_errors(f"Emptying {table.name}"), write_lock(lakehouse.store, table.name):
        pipeline.refresh()  # another run may have built them
        state = pipeline.state()
        stale, log = out_of_date(state, table), state.logs[table.name]
        wanted = inputs_of(state, table)
        # Of a lost table others may still read what is left.
        lost = log is None and table.name in state.lost_files
        chosen = frozenset(
            key
            for key in stale.keys() & keys
            if lost
            or (log and log.of(key) and _may_hold_others(state, table, key, wanted.get(key)))
        )
        if chosen:
            nothing = lakehouse.spark_session.createDataFrame([], spark_schema(table.columns))
            days = [key for key in chosen if key]  # none: of a table without dates, or a lost one
            lakehouse.replace(table, nothing, days or None, rows=0)
    return chosen


def _may_hold_others(
    state: LakeState, table: Table, key: PartitionKey, wanted: Inputs | None
) -> bool:
    """Whether rows of a partition may be of people or devices who are not in now.

    Not where its files are those of its entry, and that says that it was built with the same
    members, from what was not behind. wanted: what it would be built from now.
    """
    entry = state.ledgers[table.name].valid_entry(key, state.logs[table.name])
    if key is None or entry is None or wanted is None:
        return True
    if key in state.lost_files.get(table.name, ()):
        return True
    same_members = entry.inputs.get("members") == wanted["members"]
    return not same_members or entry.inputs.keys() != wanted.keys()
