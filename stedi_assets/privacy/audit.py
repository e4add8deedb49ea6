"""The audit rows of forgotten people under `_stedi/audit/`, and who of them landed again.

A row names a person by `subject_id` only.
"""

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stedi_assets.errors import StediError
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.spark.errors import shown_key
from stedi_assets.tables.rules import normalized_email, well_formed

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

AUDIT_FOLDER = "_stedi/audit/"
_LOG = logging.getLogger(__name__)


@dataclass
class AuditRow:
    """One row, kept from before the first change on and written again when all is done.

    path: where it is kept, under the lake; outcome: the other fields of the row; started:
    whether it is kept.
    """

    store: ObjectStore
    command: str
    subject_id: str
    outcome: dict[str, Any] = field(default_factory=lambda: {"completed": False})
    started: bool = False
    when: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), init=False
    )

    def __post_init__(self) -> None:
        self.path = f"{AUDIT_FOLDER}{self.when}-{uuid.uuid4().hex[:8]}.json"

    @property
    def row(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        who = {"when": self.when, "command": self.command, "subject_id": self.subject_id}
        return who | self.outcome

    def start(self) -> None:
        """Write the row, unless it is kept already."""
        if not self.started:
            self.store.put_json(self.path, self.row)
            self.started = True

    def finish(self) -> list[str]:
        """Write the row again where it was started; where S3 fails, the problem in a line.

        The earlier row, which is not completed, stays then.
        """
        try:
            if self.started:
                self.store.put_json(self.path, self.row)
        except StediError as error:
            self.outcome["completed"] = False
            return [f"The audit row says only that it was begun: {error}"]
        return []


def audit_rows(store: ObjectStore) -> list[dict[str, Any]]:
    """All audit rows, the oldest first; of damaged ones only a warning."""
    rows = [_audit_row(store, entry["Key"]) for entry in store.objects(AUDIT_FOLDER)]
    return sorted((row for row in rows if row is not None), key=lambda row: row["when"])


def _audit_row(store: ObjectStore, path: str) -> dict[str, Any] | None:
    document = store.get(path)
    if document is None:  # gone since it was listed
        return None
    try:
        row: dict[str, Any] = parse_json(document[0])
    except ValueError:
        row = {}
    if _is_audit_row(row):
        return row
    _LOG.warning("The audit row %s is damaged and left out.", shown_key(path))
    return None


def _is_audit_row(row: Any) -> bool:
    """Whether JSON has the form of a row, as far as anybody reads it."""
    if not isinstance(row, dict):
        return False
    rows = row.get("rows", {})
    return (
        all(isinstance(row.get(name), str) for name in ("when", "command", "subject_id"))
        and isinstance(row.get("unreadable_objects", []), list)
        and isinstance(rows, dict)
        and all(isinstance(number, int) for number in rows.values())
    )


def landed_again(
    rows: Iterable[dict[str, Any]],
    customer_landing: "DataFrame",
    accelerometer_landing: "DataFrame",
    salt: str,
) -> dict[str, dict[str, int]]:
    """How many records of forgotten people are in the landing tables, by subject_id and table.

    rows: audit rows; salt: of subject_id. Empty where nobody landed again. Frames of the dates
    that are looked at are enough.
    """
    from pyspark.sql import functions as F

    forgotten = sorted({str(row["subject_id"]) for row in rows})
    rows_by_subject: dict[str, dict[str, int]] = {}
    if not forgotten:
        return rows_by_subject
    for table, frame, who in (
        ("customer_landing", customer_landing, "email"),
        ("accelerometer_landing", accelerometer_landing, "user"),
    ):
        people = well_formed(frame).groupBy(normalized_email(who).alias("who"))
        subjects = people.agg(F.count("*").alias("n")).select(
            F.sha2(F.concat(F.lit(salt), F.col("who")), 256).alias("subject_id"), "n"
        )
        for row in subjects.where(F.col("subject_id").isin(forgotten)).collect():
            rows_by_subject.setdefault(row.subject_id, {})[table] = row.n
    return rows_by_subject
