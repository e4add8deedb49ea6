"""The settings that a lake was built with, kept in `_stedi/settings.json`, and their comparison.

Of the salt only what a slow key derivation makes of it is kept: whoever reads the file can check
a guess, but at a tenth of a second each.
"""

import contextlib
import functools
import hashlib
import hmac
import json
import os
from typing import TYPE_CHECKING, Any

from stedi_assets.errors import StediError
from stedi_assets.json_text import parse_json
from stedi_assets.lakehouse.client import PreconditionError
from stedi_assets.settings import Settings

if TYPE_CHECKING:
    from stedi_assets.lakehouse.object_store import ObjectStore

SETTINGS_FILE = "_stedi/settings.json"
# For a new fingerprint: 16 MB of memory for a guess. Kept with it, so that they can change.
_COST = {"n": 2**14, "r": 8, "p": 1}
# No parameters from the file may take more memory than this, in bytes.
_MAX_MEMORY = 2**28
_VARIABLES = {
    "first_ingest_date": "STEDI_FIRST_INGEST_DATE",
    "consent_scope": "STEDI_CONSENT_SCOPE",
}


def check_lake_settings(store: "ObjectStore") -> None:
    """Compare this process's settings with the lake's; a new lake keeps them.

    A fingerprint as earlier releases kept it is replaced, and so is a file that is damaged.
    StediError where a setting is another.
    """
    ours, (theirs, condition) = store.settings, _kept(store)
    if theirs is None:
        try:
            store.put(SETTINGS_FILE, json.dumps(lake_settings(ours)).encode(), **condition)
        except PreconditionError:  # another process made the lake at the same moment: compare
            theirs, _ = _kept(store)
        else:
            return
    if theirs is None:
        raise StediError(f"{SETTINGS_FILE} is written by others all the time: run again.")
    for key, variable in _VARIABLES.items():
        value = str(getattr(ours, key))
        if theirs.get(key) != value:
            raise _another(ours.lake, f"{theirs.get(key)} for {variable}", value)
    fingerprint = theirs.get("salt_fingerprint")
    if not is_fingerprint_of(fingerprint, ours.salt()):
        raise StediError(
            f"{ours.lake} was built with another STEDI_SUBJECT_SALT: set the one that it was built"
            " with, or build the tables with yours by `stedi rebuild` (every subject_id changes)."
        )
    if isinstance(fingerprint, str):
        with contextlib.suppress(StediError):  # who may not write leaves it to one who may
            store.put_json(SETTINGS_FILE, lake_settings(ours))


def _kept(store: "ObjectStore") -> tuple[dict[str, Any] | None, dict[str, str]]:
    """The settings as the lake keeps them, or None, and the condition to write them anew then."""
    existing = store.get(SETTINGS_FILE)
    if existing is None:
        return None, {"IfNoneMatch": "*"}
    try:
        kept = dict(parse_json(existing[0]))
    except (ValueError, TypeError):
        kept = {}
    if not {*_VARIABLES, "salt_fingerprint"} <= kept.keys():  # damaged: as good as lost
        return None, {"IfMatch": existing[1]}
    return kept, {}


def lake_settings(settings: Settings) -> dict[str, Any]:
    """The settings that a lake is built with, as it keeps them."""
    return {
        "first_ingest_date": settings.first_ingest_date.isoformat(),
        "consent_scope": settings.consent_scope,
        "salt_fingerprint": fingerprint_of(settings.salt()),
    }


@functools.cache
def salt_identity(settings: Settings) -> str:
    """What tells one salt of a lake from another, and is as slow to guess from as what is kept.

    It follows from the salt and the lake alone: every process says the same of the same.
    """
    return _scrypt(settings.salt(), settings.lake.encode(), _COST).hex()


def fingerprint_of(salt: str) -> dict[str, Any]:
    """What is kept of a salt: scrypt of it, with its parameters and random bytes of its own."""
    random = os.urandom(16)
    key = _scrypt(salt, random, _COST)
    return {"kdf": "scrypt", **_COST, "random": random.hex(), "key": key.hex()}


def is_fingerprint_of(fingerprint: Any, salt: str) -> bool:
    """Whether a kept fingerprint, also one of an earlier release, is of a salt."""
    if isinstance(fingerprint, str):  # until 0.1: the beginning of a SHA-256
        old = hashlib.sha256(f"fingerprint of the salt {salt}".encode()).hexdigest()[:16]
        return hmac.compare_digest(fingerprint.encode(), old.encode())
    try:
        cost = {name: int(fingerprint[name]) for name in _COST}
        kept = bytes.fromhex(fingerprint["key"])
        key = _scrypt(salt, bytes.fromhex(fingerprint["random"]), cost)
    except (KeyError, TypeError, ValueError):
        return False
    return fingerprint.get("kdf") == "scrypt" and hmac.compare_digest(key, kept)


def _scrypt(salt: str, random: bytes, cost: dict[str, int]) -> bytes:
    return hashlib.scrypt(salt.encode(), salt=random, maxmem=_MAX_MEMORY, dklen=32, **cost)


def _another(lake: str, kept: str, own: str) -> StediError:
    return StediError(
        f"{lake} was built with {kept}, this process has {own}: set it as the lake has it (where"
        " the lake was begun after the UI or the daemon was started: restart these), or rebuild the"
        " tables as you are set with `stedi rebuild`."
    )
