"""The text of a landed object, streamed: read from S3, unzipped, decoded, within the limits.

What belongs here: bytes to text. What does not: text to records (`record_parser.py`).
"""

import codecs
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from stedi_assets.lakehouse.client import translate_s3_errors
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.landing.layout import LandedObject

CHUNK = 1 << 20  # bytes held of an object at a time
BYTE_ORDER_MARK = "\ufeff"
_GZIP = b"\x1f\x8b"
# S3's error codes for one object that these keys may not read, or that is archived.
REFUSED = {"AccessDenied", "Forbidden", "403", "InvalidObjectState", "KMS.DisabledException"}


class UnreadableError(Exception):
    """An object cannot be read at all; the message is the contract's `<reason>`."""


class RefusedError(UnreadableError):
    """S3 has the object and does not give it to these keys."""


def _stored_chunks(
    store: ObjectStore, key: str, version: str | None, etag: str | None
) -> Iterator[bytes]:
    """The bytes of an object as S3 holds them."""
    settings = store.settings
    which = {"VersionId": version} if version else {"IfMatch": etag} if etag else {}
    with translate_s3_errors(store.client, f"reading {key}"):
        try:
            answer = store.client.get_object(Bucket=settings.bucket, Key=settings.key(key), **which)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in REFUSED:
                raise RefusedError(f"S3 refuses it ({code})") from None
            raise
        if not key.lower().endswith(".gz"):
            _check_length(answer["ContentLength"], settings.max_object_bytes)
        yield from answer["Body"].iter_chunks(CHUNK)


def starts_with_a_line(
    store: ObjectStore, landed_object: LandedObject, longest: int, copy: Path | None = None
) -> bool:
    """Whether a line ends within the first `longest` bytes of a plain object, or its local copy.

    One request of so many bytes; true where S3 does not give them, as others find out.
    """
    settings = store.settings
    if copy:
        with copy.open("rb") as file:
            start = file.read(longest)
        return b"\n" in start or b"\r" in start
    try:
        answer = store.client.get_object(
            Bucket=settings.bucket,
            Key=settings.key(landed_object.key),
            Range=f"bytes=0-{longest - 1}",
        )
        start = answer["Body"].read()
    except (ClientError, BotoCoreError):
        return True
    return b"\n" in start or b"\r" in start


def _check_length(length: int, most: int) -> None:
    if length > most:
        raise UnreadableError(f"longer than {most} bytes")


def unzipped(chunks: Iterable[bytes], allow_padding: bool = True) -> Iterator[bytes]:
    """The content of gzip members one after another, as gzip and Python read them.

    Zero bytes may follow a member; UnreadableError at them where `allow_padding` is false, since
    engines stop there.
    """
    member, members, data = None, 0, b""
    for chunk in chunks:
        data += chunk
        while data:
            if member is None:
                if members and data[:1] == b"\0":
                    if not allow_padding:
                        raise UnreadableError("gzip padded")
                    data = data.lstrip(b"\0")
                if len(data) < len(_GZIP):
                    break
                if data[:2] != _GZIP:
                    raise UnreadableError("gzip damaged" if members else "not gzip")
                member, members = zlib.decompressobj(16 + zlib.MAX_WBITS), members + 1
            yield from _inflated(member, data)
            data = member.unused_data
            member = None if member.eof else member
    if member is not None:
        raise UnreadableError("gzip cut short")
    if data:
        raise UnreadableError("gzip damaged" if members else "not gzip")


def _inflated(member: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """What a member makes of some of its bytes, a chunk at a time, whatever it expands to."""
    while True:
        try:
            content = member.decompress(data, CHUNK)
        except zlib.error:
            raise UnreadableError("gzip damaged") from None
        if content:
            yield content
        data = member.unconsumed_tail
        if member.eof or (not data and len(content) < CHUNK):
            return


def _copied_chunks(copy: Path) -> Iterator[bytes]:
    with copy.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def content_chunks(
    store: ObjectStore,
    key: str,
    version: str | None = None,
    allow_padding: bool = True,
    copy: Path | None = None,
    etag: str | None = None,
) -> Iterator[bytes]:
    """The bytes of an object's text, or of its local copy's, unzipped where its name says so.

    UnreadableError where it is not gzip as its name says, is longer than
    `STEDI_MAX_OBJECT_BYTES`, or S3 refuses it; GoneError where it is not there, PreconditionError
    where its etag is another.
    """
    chunks = _copied_chunks(copy) if copy else _stored_chunks(store, key, version, etag)
    most, length = store.settings.max_object_bytes, 0
    for chunk in unzipped(chunks, allow_padding) if key.lower().endswith(".gz") else chunks:
        length += len(chunk)
        _check_length(length, most)
        yield chunk


def decoded(chunks: Iterable[bytes]) -> Iterator[str]:
    """The text of some bytes; UnreadableError where they are not UTF-8.

    The bytes are read to their end first: of damaged gzip the damage is the reason, wherever it is.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = iter(chunks)
    try:
        for chunk in rest:
            yield decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        for _ in rest:
            pass
        raise UnreadableError("not UTF-8") from None


def text_chunks(
    store: ObjectStore, key: str, version: str | None = None, etag: str | None = None
) -> Iterator[str]:
    """The text of an object, without its byte-order mark, piece by piece.

    version: an older one; etag: of what the object is to be, in S3's quotes. Errors as of
    `content_chunks`, also after pieces that were read.
    """
    start = True
    for text in decoded(content_chunks(store, key, version, etag=etag)):
        yield text.removeprefix(BYTE_ORDER_MARK) if start else text
        start = start and not text


def blocks_of_lines(chunks: Iterable[str]) -> Iterator[str]:
    """A text that comes in chunks, in blocks that end where a line does: no line is cut in two."""
    held: list[str] = []
    for chunk in chunks:
        # A carriage return at a chunk's end may be half of what ends the line.
        end = max(chunk.rfind("\n"), chunk.rfind("\r", 0, len(chunk) - 1)) + 1
        if end:
            yield "".join([*held, chunk[:end]])
            held = []
        held.append(chunk[end:])
    if last := "".join(held):
        yield last


def is_as_engines_expect(
    store: ObjectStore, landed_object: LandedObject, longest_line: int, copy: Path | None = None
) -> bool:
    """Whether an engine reads the same text in the object, or its local copy, as the contract does.

    It is sound gzip where its name says so, UTF-8, has no byte-order mark, and no line longer than
    `longest_line` bytes (at least CHUNK).
    """
    try:
        chunks = content_chunks(store, landed_object.key, allow_padding=False, copy=copy)
        start = True
        for text in decoded(_watched(chunks, longest_line)):
            if start and text.startswith(BYTE_ORDER_MARK):
                return False
            start = start and not text
    except UnreadableError:
        return False
    return True


def _watched(chunks: Iterable[bytes], longest_line: int) -> Iterator[bytes]:
    """The chunks; UnreadableError at a line of more bytes than `longest_line`."""
    open_line = 0  # bytes of the line that the next chunk goes on with
    for chunk in chunks:
        ends = [at for at in (chunk.find(b"\n"), chunk.find(b"\r")) if at >= 0]
        open_line += min(ends, default=len(chunk))
        if open_line > longest_line:
            raise UnreadableError("a line too long for an engine")
        if ends:
            open_line = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        yield chunk
