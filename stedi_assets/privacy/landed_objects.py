"""Takes a person out of the landed objects on S3: every object, landed or not, and its versions."""

import gzip
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TextIO, cast

from botocore.exceptions import BotoCoreError, ClientError

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.client import GoneError
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.landing import record_parser
from stedi_assets.landing.object_text import (
    RefusedError,
    UnreadableError,
    blocks_of_lines,
    text_chunks,
)
from stedi_assets.privacy.address_search import folded, key_holds, without_address
from stedi_assets.privacy.vacuum import Version, noncurrent_versions
from stedi_assets.privacy.whose_record import Person, Redaction, claim_of, lines_of, redact
from stedi_assets.scratch import scratch_folder, translate_disk_errors
from stedi_assets.spark.errors import shown_key
from stedi_assets.tables.schemas import ENTITIES, Entity

THREADS = 8
# How often an object that others write at the same time is read again before it is left alone.
ATTEMPTS = 5
_UNCERTAIN = "holds text that may be of the person: look into it"
_REASONS = {
    "InvalidObjectState": "archived: restore it, then repeat",
    "AccessDenied": "access denied",
    "NoSuchKey": "deleted while it was searched",
    "NoSuchVersion": "deleted while it was searched",
    "PreconditionFailed": "written by others all the time: repeat",
}


@dataclass
class Taken:
    """What was taken out of the landed objects, and what could not be searched.

    records: by landing table; mentions: records of others that gave the address and now do not;
    unread: the objects that may still hold the person, each with the reason; named: the objects
    whose key holds the address, without anybody's; was_found: an object held the person, whether
    it could be changed or not; to_be_repeated: S3 refused some of it, or gave no answer.
    """

    records: dict[str, int] = field(default_factory=dict)
    mentions: int = 0
    versions: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    was_found: bool = False
    to_be_repeated: bool = False


class Redactor:
    """Takes one person out of landed objects.

    before_change: called before each change, by one thread at a time.
    """

    def __init__(
        self, store: ObjectStore, person: Person, before_change: Callable[[], None]
    ) -> None:
        self.store, self.person, self.taken = store, person, Taken()
        self._before_change, self._lock = before_change, threading.Lock()
        self._shown_as: dict[str, str] = {}
        self._times_shown: Counter[str] = Counter()
        self._named: set[str] = set()

    @property
    def unknown_devices(self) -> set[str]:
        """Devices that records of the person named that were taken out, and nobody had known."""
        return self._named - self.person.devices - self.person.shared

    def take_out(self) -> None:
        """Rewrite every object that holds the person; what could not be done is noted."""
        # Customers last: cut short and done again, it still finds the person's devices.
        for entity in reversed(ENTITIES.values()):
            self._take_out_of(entity)

    def _take_out_of(self, entity: Entity) -> None:
        folder, table = f"landing/{entity.name}/", f"{entity.name}_landing"
        self.taken.records[table] = 0
        objects = list(self.store.objects(folder))
        self.taken.named += [
            self._shown(entry["Key"])
            for entry in objects
            if key_holds(entry["Key"], self.person.email)
        ]
        with ThreadPoolExecutor(THREADS) as pool:
            for redaction in pool.map(lambda entry: self._rewrite(entry, entity), objects):
                self.taken.records[table] += redaction.taken
                self.taken.mentions += redaction.mentions
        try:
            versions = [
                entry for entry in noncurrent_versions(self.store, folder) if entry.has_content
            ]
        except StediError as error:
            self._note(f"{folder} (older versions)", error)
            return
        with ThreadPoolExecutor(THREADS) as pool:
            gone = pool.map(lambda version: self._delete_version(version, entity), versions)
            self.taken.versions += sum(gone)

    def _rewrite(self, listed: dict[str, Any], entity: Entity) -> Redaction:
        """Rewrite an object without the person, unless another changes it at the same time."""
        key, etag, nothing = listed["Key"], listed["ETag"], Redaction()
        if key.endswith("/") and not listed["Size"]:
            return nothing
        for attempt in range(1, ATTEMPTS + 1):
            try:
                redaction = self._search(key, entity, etag=etag)
                if redaction.uncertain:
                    self._note(key, _UNCERTAIN)
                if redaction.changed:
                    self._announce()
                    redaction = self._put_without(key, entity, etag)
            except (UnreadableError, StediError) as error:
                if attempt < ATTEMPTS and _s3_code(error) == "PreconditionFailed":
                    etag = self._etag(key, etag)
                    continue
                self._note(key, error)
                return nothing
            self._named |= redaction.devices
            return redaction
        return nothing

    def _search(
        self,
        key: str,
        entity: Entity,
        version: str | None = None,
        etag: str | None = None,
        out: TextIO | None = None,
    ) -> Redaction:
        """What an object holds of the person, a block of lines at a time; out: takes the rest.

        version: an older one; etag: what the object is to be.
        """
        whole = Redaction()
        for block in blocks_of_lines(text_chunks(self.store, key, version, etag)):
            part = redact(block, entity, self.person)
            whole.add(part)
            if out:
                out.write(part.text)
        return whole

    def _put_without(self, key: str, entity: Entity, etag: str) -> Redaction:
        """Put an object without the person in its place; what was taken out of it."""
        path = scratch_folder() / f"redacted-{uuid.uuid4().hex}"
        opened = gzip.open if key.lower().endswith(".gz") else open
        try:
            with translate_disk_errors():
                with opened(path, "wt", encoding="utf-8", newline="") as out:
                    redaction = self._search(key, entity, etag=etag, out=cast(TextIO, out))
                with path.open("rb") as body:
                    self.store.put(key, body, IfMatch=etag)
        finally:
            path.unlink(missing_ok=True)
        return redaction

    def _etag(self, key: str, etag: str) -> str:
        """The object's etag now; the one that is known where it cannot be asked."""
        settings = self.store.settings
        try:
            answer = self.store.client.head_object(Bucket=settings.bucket, Key=settings.key(key))
        except (ClientError, BotoCoreError):
            return etag
        return str(answer["ETag"])

    def _delete_version(self, version: Version, entity: Entity) -> bool:
        """Delete an older version of an object that holds the person; whether it went."""
        try:
            redaction = self._search(version.path, entity, version.id)
            if redaction.changed:
                self._announce()
                version.delete(self.store)
        except GoneError:
            return False
        except (UnreadableError, StediError) as error:
            self._note(version.path, error, version.id)
            return False
        if redaction.uncertain and not redaction.changed:
            self._note(version.path, _UNCERTAIN, version.id)
        return redaction.changed

    def _announce(self) -> None:
        with self._lock:
            self._before_change()
            self.taken.was_found = True

    def _note(self, key: str, why: "Exception | str", version: str = "") -> None:
        shown = self._shown(key) + (f" (version {version})" if version else "")
        code = None if isinstance(why, str) else _s3_code(why)
        if code is not None:
            self.taken.unread[shown] = _REASONS.get(code, f"S3 answers {code}")
            self.taken.to_be_repeated |= code not in ("NoSuchKey", "NoSuchVersion")
        else:
            self.taken.unread[shown] = shown_key(without_address(str(why), self.person.email))
            self.taken.to_be_repeated |= isinstance(why, StediError)  # no answer came

    def _shown(self, key: str) -> str:
        """A key without anybody's address: the audit row stays when they are forgotten as well.

        Keys that would look alike are numbered.
        """
        shown = shown_key(without_address(key, self.person.email))
        with self._lock:
            if key not in self._shown_as:
                self._times_shown[shown] += 1
                times = self._times_shown[shown]
                self._shown_as[key] = shown if times == 1 else f"{shown} ({times})"
            return self._shown_as[key]


def _s3_code(error: Exception) -> str | None:
    """The code of S3's error behind one of ours; None where it is another's."""
    cause = error.__cause__ or error.__context__
    if not isinstance(cause, ClientError):
        return None
    code = str(cause.response.get("Error", {}).get("Code"))
    return {"404": "NoSuchKey", "403": "AccessDenied", "412": "PreconditionFailed"}.get(code, code)


@dataclass(frozen=True)
class Claims:
    """Whose devices are, by the customer objects: landed, misplaced, hidden or of days to come.

    person: with their devices; unread: objects that cannot be read as they are, which may name
    others; unanswered: objects that S3 did not give this time.
    """

    person: Person
    unread: int = 0
    unanswered: int = 0


def claims_in_objects(store: ObjectStore, person: Person) -> Claims:
    """The person with the devices that customer objects name, whether a table holds them or not."""
    wrong: dict[str, bool] = {}

    def claims(may_be_in: Callable[[str], bool], keep: Callable[[str, str], bool]) -> set[str]:
        return _claimed(store, may_be_in, keep, wrong)

    theirs = claims(
        lambda text: person.may_be_in(folded(text)), lambda owner, _: owner == person.email
    )
    numbers = person.devices | person.shared | theirs
    shared = set(person.shared)
    if numbers:  # else there is nothing to read all objects again for
        shared |= claims(
            lambda text: any(number in text for number in numbers),
            lambda owner, number: owner != person.email and number in numbers,
        )
    unanswered = sum(wrong.values())
    known = replace(person, devices=frozenset(numbers - shared), shared=frozenset(shared))
    return Claims(known, len(wrong) - unanswered, unanswered)


def _claimed(
    store: ObjectStore,
    may_be_in: Callable[[str], bool],
    keep: Callable[[str, str], bool],
    wrong: dict[str, bool],
) -> set[str]:
    """The numbers of devices in those well-formed customer records that `keep` takes.

    may_be_in: False for text that surely has none of them; keep: by email and number; wrong:
    takes the keys of objects that were not read, and whether S3 may give them another time.
    """
    entity = ENTITIES["customer"]

    def is_wanted(text: str) -> bool:
        return "\\" in text or may_be_in(text)

    def claimed_in(key: str) -> set[str]:
        try:
            blocks = blocks_of_lines(text_chunks(store, key))
            lines = (line for block in blocks if is_wanted(block) for line in lines_of(block))
            pieces = (p for line in lines if is_wanted(line) for p in record_parser.pieces_of(line))
            named = (claim_of(entity, parsed) for _, parsed in pieces)
            return {claim[1] for claim in named if claim and keep(*claim)}
        except (RefusedError, StediError):
            wrong[key] = True
            return set()
        except UnreadableError:
            wrong.setdefault(key, False)
            return set()

    keys = [listed["Key"] for listed in store.objects(f"landing/{entity.name}/")]
    with ThreadPoolExecutor(THREADS) as pool:
        return set().union(*pool.map(claimed_in, keys))
