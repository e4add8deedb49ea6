"""What was read to compute rows: of which partitions, so that their data files can be listed after
the rows were used. Only then is it known that the files were what was built."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stedi_assets.incremental.ledger import PartitionKey

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Partitions = Mapping[str, frozenset[PartitionKey]]  # by table; of None, the whole table


@dataclass(frozen=True)
class ReadRows:
    """Rows, at the most how many there are, and what they are read from.

    partitions: those that are read themselves; sound: what is read of roll-ups instead was made of
    files that were as they were written.
    """

    frame: "DataFrame"
    rows: int
    partitions: Partitions = field(default_factory=dict)
    sound: bool = True


def together(*parts: Partitions) -> Partitions:
    """The partitions that any of the parts names."""
    found: dict[str, frozenset[PartitionKey]] = {}
    for part in parts:
        for table, keys in part.items():
            found[table] = found.get(table, frozenset()) | keys
    return found
