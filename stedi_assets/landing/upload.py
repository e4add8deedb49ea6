"""`stedi land`: uploads objects from a folder to the landing zone; never overwrites."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.client import translate_s3_errors
from stedi_assets.landing.layout import is_data, parse_date
from stedi_assets.spark.errors import shown_key
from stedi_assets.tables.schemas import ENTITIES

THREADS = 8
# S3 takes 5 GiB in one request; well below that a lost connection costs a part, not the file.
PART_BYTES = 64 << 20
_ATTEMPTS = 5
_DATED = re.compile(r"ingest_date=([^/]*)/(.+)", re.DOTALL)


class LandError(StediError):
    """What cannot be landed and why, in one line."""


@dataclass
class Landed:
    """What `land` did."""

    sent: int = 0
    skipped: int = 0
    renamed: int = 0
    warnings: list[str] = field(default_factory=list)
    dates: set[date] = field(default_factory=set)


@dataclass(frozen=True)
class _Upload:
    file: Path
    folder: str
    name: str


def land(
    client: Any,
    bucket: str,
    prefix: str,
    source: Path,
    ingest_date: date,
    progress: Callable[[int, int], None] | None = None,
    between: tuple[date, date] = (date.min, date.max),
) -> Landed:
    """Land every object of a source's entity folders; an `ingest_date=` folder keeps its date.

    progress: takes how many objects are done, of how many. between: the first and last ingest
    date that a table takes in. LandError, before anything is sent, where the source has no entity
    folder, or a date is not a real one or not between those.
    """
    result = Landed()
    uploads = list(_uploads(prefix, source, ingest_date, result))
    _check_dates(result.dates, *between)
    pool = ThreadPoolExecutor(THREADS)
    try:
        futures = [pool.submit(_send, client, bucket, upload) for upload in uploads]
        for done, future in enumerate(as_completed(futures), 1):
            outcome = future.result()
            setattr(result, outcome, getattr(result, outcome) + 1)
            result.sent += outcome == "renamed"
            if progress:
                progress(done, len(uploads))
    finally:
        # On an error or Ctrl-C what waits is not sent any more; on success nothing waits.
        pool.shutdown(cancel_futures=True)
    return result


def dates_of(source: Path, ingest_date: date) -> set[date]:
    """The ingest dates on which `land` would land something of a source; LandError as there."""
    result = Landed()
    for _ in _uploads("", source, ingest_date, result):
        pass
    return result.dates


def _check_dates(dates: set[date], first: date, last: date) -> None:
    wrong = sorted(day for day in dates if not first <= day <= last)
    if wrong:
        raise LandError(
            f"ingest_date={wrong[0]} is outside the partition range ({first} to {last}, UTC): no"
            " table would take its objects in, so nothing was sent. Correct the date, or set"
            " STEDI_FIRST_INGEST_DATE before the lake is built."
        )


def _uploads(prefix: str, source: Path, day: date, result: Landed) -> Iterator[_Upload]:
    for entity in _entities(source, result):
        folder = source / entity
        for file in sorted(folder.rglob("*")):
            upload = _upload_of(file, folder, day, result)
            if upload is not None:
                start = f"{prefix}/landing" if prefix else "landing"
                result.dates.add(upload[0])
                key = f"{start}/{entity}/ingest_date={upload[0]}/"
                yield _Upload(file, key, upload[1])


def _upload_of(file: Path, folder: Path, day: date, result: Landed) -> tuple[date, str] | None:
    """The ingest date and name that a file lands under; None where it does not, with a warning."""
    if not file.is_file():
        if file.is_symlink() or not file.is_dir():
            result.warnings.append(f"{_shown(file)} is neither file nor folder: not sent.")
        return None
    name = file.relative_to(folder).as_posix()
    dated = _DATED.fullmatch(name)
    ingest_date = parse_date(dated[1]) if dated else day
    if ingest_date is None:
        raise LandError(f"{_shown(file)}: its ingest_date is not a date (YYYY-MM-DD).")
    name = dated[2] if dated else name
    if not is_data(name):
        result.warnings.append(f"{_shown(file)} is not data (its name says so): not sent.")
        return None
    if _printable(file) != str(file):
        result.warnings.append(
            f"{_shown(file)}: its name is not UTF-8, as a key on S3 must be: not sent."
            " Rename it, then land again."
        )
        return None
    return ingest_date, name


def _shown(path: Path) -> str:
    """A path as text that can be printed, without anybody's address."""
    return shown_key(_printable(path))


def _printable(path: Path) -> str:
    """A path as text that can be printed, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _entities(source: Path, result: Landed) -> list[str]:
    """The source's entity folders; LandError where there is none, a warning for other folders."""
    folders = sorted(path.name for path in source.iterdir() if path.is_dir() and is_data(path.name))
    entities = [name for name in ENTITIES if name in folders]
    if not entities:
        names = ", ".join(_shown(Path(name)) for name in folders[:5])
        contents = f"it has {names}" if folders else "it has no folders"
        raise LandError(
            f"{_shown(source)} holds none of the folders {', '.join(ENTITIES)} ({contents}):"
            " nothing to land."
        )
    for name in folders:
        if name not in ENTITIES:
            folder = _shown(source / name)
            result.warnings.append(f"{folder} is not an entity's folder: not sent.")
    return entities


def _send(client: Any, bucket: str, upload: _Upload) -> str:
    """Send one object; says `sent`, `skipped` or `renamed`."""
    try:
        digest = _sha256(upload.file)
    except OSError as error:
        _unreadable(upload.file, error)
    with translate_s3_errors(client, f"sending {upload.folder}{upload.name}"):
        return _send_once(client, bucket, upload, digest)


def _send_once(client: Any, bucket: str, upload: _Upload, digest: str) -> str:
    """Send it under its own name, or under one with its digest where that holds other content."""
    stem, dot, suffixes = upload.name.rpartition("/")[2].partition(".")
    parent = upload.name[: len(upload.name) - len(stem + dot + suffixes)]
    names = [upload.name, f"{parent}{stem}-{digest[:12]}{dot}{suffixes}"]
    for name, outcome in zip(names, ("sent", "renamed"), strict=True):
        existing_digest = _put_or_digest(client, bucket, upload.folder + name, upload.file, digest)
        if existing_digest is None:
            return outcome
        if existing_digest == digest:
            return "skipped"
    key = shown_key(upload.folder + names[1])
    raise LandError(f"{key} is there with other content: it was not sent.")


def _unreadable(file: Path, error: OSError) -> NoReturn:
    raise LandError(f"{_shown(file)} cannot be read: {error.strerror}.") from None


def _put_or_digest(client: Any, bucket: str, key: str, file: Path, digest: str) -> str | None:
    """Put a file where no object has the key: None; else the digest of the object there.

    Looking first spares sending what is there already, and guards where a server ignores
    IfNoneMatch; IfNoneMatch guards against whoever puts between the look and ours.
    """
    for _ in range(_ATTEMPTS):
        existing_digest = _digest_there(client, bucket, key)
        if existing_digest is not None:
            return existing_digest
        try:
            _put(client, bucket, key, file, digest, {"IfNoneMatch": "*"})
            return None
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 501:  # a server without conditional writes: the look must do
                _put(client, bucket, key, file, digest, {})
                return None
            if status not in (409, 412):
                raise
    raise LandError(
        f"{shown_key(key)}: others put and remove objects of this name: it was not sent."
    )


def _put(
    client: Any, bucket: str, key: str, file: Path, digest: str, only_if: dict[str, str]
) -> None:
    """Put a file as one atomic object, streamed from disk, in parts where it is big."""
    address = {"Bucket": bucket, "Key": key}
    size = file.stat().st_size
    if size <= PART_BYTES:
        with file.open("rb") as body:
            client.put_object(**address, Body=body, Metadata={"sha256": digest}, **only_if)
        return
    from s3transfer.utils import ReadFileChunk

    # boto3's upload_file takes no IfNoneMatch, so the parts are sent here.
    started = client.create_multipart_upload(**address, Metadata={"sha256": digest})
    address["UploadId"] = started["UploadId"]
    try:
        parts = []
        for number, start in enumerate(range(0, size, PART_BYTES), 1):
            with ReadFileChunk.from_filename(str(file), start, PART_BYTES) as chunk:
                part = client.upload_part(**address, PartNumber=number, Body=chunk)
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        client.complete_multipart_upload(**address, MultipartUpload={"Parts": parts}, **only_if)
    except BaseException:
        client.abort_multipart_upload(**address)
        raise


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _digest_there(client: Any, bucket: str, key: str) -> str | None:
    """SHA-256 of the object there, read where whoever put it did not say; None: no object."""
    try:
        head = client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    stored_digest = head.get("Metadata", {}).get("sha256")
    if stored_digest:
        return str(stored_digest)
    digest = hashlib.sha256()
    for chunk in client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
