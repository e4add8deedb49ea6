"""Where landed objects lie: the dates and names of their keys, and what S3 lists of them.

What belongs here: keys. What does not: what is in an object (`object_text.py`).
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from stedi_assets.lakehouse.client import translate_s3_errors
from stedi_assets.settings import DATE_PATTERN
from stedi_assets.tables.schemas import ENTITIES

# Names that every engine reads as the text that the object holds (`.gz`: as gzipped text). An
# engine takes `*` for a pattern, drops an empty part of a path, and decompresses or refuses `.bz2`,
# `.zst`, `.snappy` and others: whatever is not known to be harmless is read by the exact parser.
_HARMLESS = re.compile(
    r"landing/[a-z_]+/ingest_date=[0-9-]+/(?:[A-Za-z0-9_.+-]+/)*"
    r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*?(?P<suffix>\.(?:json|jsonl|ndjson|txt|log|gz|[0-9]+))?"
)


@dataclass(frozen=True, order=True)
class LandedObject:
    """A landed object as S3 lists it; key under the lake, size in bytes."""

    key: str
    etag: str
    size: int

    @property
    def is_gzipped(self) -> bool:
        """Whether its name says that its text is gzipped."""
        return self.key.lower().endswith(".gz")

    @property
    def has_harmless_name(self) -> bool:
        """Whether every engine takes the name literally and reads what the contract says."""
        match = _HARMLESS.fullmatch(self.key)
        return match is not None and (
            match["suffix"] is not None or "." not in self.key.rpartition("/")[2]
        )


def parse_date(text: str) -> date | None:
    """The date of `YYYY-MM-DD`, or None where it is not a real one, or of the first 999 years.

    Before 0001-01-01 there is no day, and strftime writes years before 1000 without their zeros.
    """
    try:
        return date.fromisoformat(text) if re.fullmatch(DATE_PATTERN, text) else None
    except ValueError:
        return None


def is_data(name: str) -> bool:
    """Whether an object's name below its ingest date's folder says that it holds data."""
    return name != "" and not name.endswith("/") and not re.search(r"(^|/)[_.]", name)


def landed_dates(client: Any, bucket: str, prefix: str) -> dict[str, list[date]]:
    """Entity -> its landed ingest dates (folders with a real date), oldest first.

    StediError where S3 refuses the listing.
    """
    dates: dict[str, list[date]] = {}
    for entity in ENTITIES:
        folder = f"{prefix}/landing/{entity}/".lstrip("/")
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=folder, Delimiter="/"
        )
        with translate_s3_errors(client, f"listing {folder}"):
            names = [
                common["Prefix"][len(folder) :].rstrip("/")
                for page in pages
                for common in page.get("CommonPrefixes", ())
            ]
        days = (parse_date(n.removeprefix("ingest_date=")) for n in names if "ingest_date=" in n)
        dates[entity] = sorted(day for day in days if day)
    return dates
