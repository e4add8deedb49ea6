"""`stedi land`: objects from a folder to the landing zone, and never over one that is there."""

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from stedi_assets.lake import is_data
from stedi_assets.schemas import ENTITIES
from stedi_assets.settings import StediError

_DATED = re.compile(r"ingest_date=([^/]*)/(.+)")


class LandError(StediError):
    """A source that cannot be landed; nothing of it was sent."""


@dataclass
class Landed:
    """What `land` did."""

    sent: int = 0
    skipped: int = 0
    renamed: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Upload:
    file: Path
    folder: str
    name: str


def parse_date(text: str) -> date | None:
    """The date of `YYYY-MM-DD`, or None where it is not a real one."""
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None
    except ValueError:
        return None


def land(
    client: Any,
    bucket: str,
    prefix: str,
    source: Path,
    ingest_date: date,
    progress: Callable[[int, int], None] | None = None,
) -> Landed:
    """Land every object of a source's entity folders; an `ingest_date=` folder keeps its date.

    LandError, before anything is sent, where the source has no entity folder or a date is none.
    """
    landed = Landed()
    uploads = list(_uploads(prefix, source, ingest_date, landed))
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(_send, client, bucket, upload) for upload in uploads]
        for done, future in enumerate(as_completed(futures), 1):
            outcome = future.result()
            setattr(landed, outcome, getattr(landed, outcome) + 1)
            landed.sent += outcome == "renamed"
            if progress:
                progress(done, len(uploads))
    return landed


def _uploads(prefix: str, source: Path, day: date, landed: Landed) -> Iterator[_Upload]:
    entities = [name for name in ENTITIES if (source / name).is_dir()]
    if not entities:
        raise LandError(
            f"{source} holds none of the folders {', '.join(ENTITIES)}: nothing to land."
        )
    for entity in entities:
        folder = source / entity
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = file.relative_to(folder).as_posix()
            dated = _DATED.fullmatch(name)
            found = parse_date(dated[1]) if dated else day
            if found is None:
                raise LandError(f"{folder / name}: its ingest_date is not a date (YYYY-MM-DD).")
            name = dated[2] if dated else name
            if not is_data(name):
                landed.warnings.append(f"{folder / name} is not data (its name says so): not sent.")
                continue
            start = f"{prefix}/landing" if prefix else "landing"
            yield _Upload(file, f"{start}/{entity}/ingest_date={found}/", name)


def _send(client: Any, bucket: str, upload: _Upload) -> str:
    """Send one object; says `sent`, `skipped` or `renamed`."""
    digest = _sha256(upload.file)
    stem, dot, suffixes = upload.name.rpartition("/")[2].partition(".")
    parent = upload.name[: len(upload.name) - len(stem + dot + suffixes)]
    names = [upload.name, f"{parent}{stem}-{digest[:12]}{dot}{suffixes}"]
    for name, outcome in zip(names, ("sent", "renamed"), strict=True):
        key = upload.folder + name
        if _put(client, bucket, key, upload.file, digest):
            return outcome
        if _digest_there(client, bucket, key) == digest:
            return "skipped"
    raise LandError(f"{upload.folder}{names[1]} is there with other content: nothing was sent.")


def _put(client: Any, bucket: str, key: str, file: Path, digest: str) -> bool:
    """Whether the object was put: not where one of that name is there already."""
    try:
        with file.open("rb") as body:
            client.put_object(
                Bucket=bucket, Key=key, Body=body, IfNoneMatch="*", Metadata={"sha256": digest}
            )
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
            return False
        raise
    return True


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _digest_there(client: Any, bucket: str, key: str) -> str:
    """SHA-256 of the object that is there; read where whoever put it did not say."""
    head = client.head_object(Bucket=bucket, Key=key)
    said = head.get("Metadata", {}).get("sha256")
    if said:
        return str(said)
    digest = hashlib.sha256()
    for chunk in client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def landed_dates(client: Any, bucket: str, prefix: str) -> dict[str, list[date]]:
    """Entity -> its landed ingest dates (folders with a real date), oldest first."""
    found: dict[str, list[date]] = {}
    for entity in ENTITIES:
        folder = f"{prefix}/landing/{entity}/".lstrip("/")
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=folder, Delimiter="/"
        )
        names = [
            common["Prefix"][len(folder) :].rstrip("/")
            for page in pages
            for common in page.get("CommonPrefixes", ())
        ]
        days = (parse_date(n.removeprefix("ingest_date=")) for n in names if "ingest_date=" in n)
        found[entity] = sorted(day for day in days if day)
    return found
