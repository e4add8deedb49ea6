"""The lake keeps its settings, and of the salt nothing that helps to guess it."""

import dataclasses
import hashlib
import json
import time

import pytest

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.client import PreconditionError
from stedi_assets.lakehouse.lake_settings import SETTINGS_FILE, check_lake_settings, salt_identity
from stedi_assets.settings import Settings

SALT = "a salt that is long enough"
OURS = Settings("bucket", "", False, subject_salt=SALT)


class Store:
    """A lake's JSON files in memory."""

    def __init__(self, settings: Settings = OURS, **files: object) -> None:
        self.settings, self.files = settings, files
        self.read_only = False

    def get(self, path: str) -> tuple[bytes, str] | None:
        text = self.files.get(path)
        return None if text is None else (text.encode(), "etag")

    def get_json(self, path: str) -> dict:
        return json.loads(self.files[path])

    def put_json(self, path: str, value: object) -> None:
        self.put(path, json.dumps(value).encode())

    def put(self, path: str, body: bytes, **condition: str) -> str:
        if self.read_only:
            raise StediError("may not")
        if "IfNoneMatch" in condition and path in self.files:
            raise PreconditionError("it is there already")
        self.files[path] = body.decode()
        return "etag"


def old_fingerprint() -> str:
    return hashlib.sha256(f"fingerprint of the salt {SALT}".encode()).hexdigest()[:16]


@pytest.fixture
def old_lake() -> Store:
    """A lake of a release that kept the beginning of a SHA-256."""
    store = Store()
    check_lake_settings(store)
    kept = store.get_json(SETTINGS_FILE) | {"salt_fingerprint": old_fingerprint()}
    store.put_json(SETTINGS_FILE, kept)
    return store


def test_a_lake_takes_the_salt_that_it_was_built_with_and_refuses_another():
    store = Store()
    check_lake_settings(store)
    check_lake_settings(store)
    store.settings = dataclasses.replace(OURS, subject_salt="another salt that is long")
    with pytest.raises(StediError, match="another STEDI_SUBJECT_SALT") as raised:
        check_lake_settings(store)
    assert "long" not in str(raised.value)


def test_another_consent_scope_is_refused_with_both_values():
    store = Store()
    check_lake_settings(store)
    store.settings = dataclasses.replace(OURS, consent_scope="reading")
    with pytest.raises(StediError, match=r"built with customer for STEDI_CONSENT_SCOPE.* reading"):
        check_lake_settings(store)


def test_two_lakes_of_one_salt_keep_nothing_in_common_and_a_guess_is_slow():
    stores = [Store(), Store()]
    for store in stores:
        check_lake_settings(store)
    first, second = (store.get_json(SETTINGS_FILE)["salt_fingerprint"] for store in stores)
    assert first["key"] != second["key"]
    assert old_fingerprint() not in json.dumps(first)
    before = time.perf_counter()
    check_lake_settings(stores[0])
    assert time.perf_counter() - before > 0.01


def test_an_old_fingerprint_is_replaced_in_silence(old_lake):
    check_lake_settings(old_lake)
    assert old_fingerprint() not in old_lake.files[SETTINGS_FILE]
    check_lake_settings(old_lake)


def test_an_old_fingerprint_of_another_salt_is_refused_and_stays(old_lake):
    old_lake.settings = dataclasses.replace(OURS, subject_salt="another salt that is long")
    with pytest.raises(StediError, match="another STEDI_SUBJECT_SALT"):
        check_lake_settings(old_lake)
    assert old_fingerprint() in old_lake.files[SETTINGS_FILE]


def test_who_may_not_write_reads_a_lake_with_an_old_fingerprint(old_lake):
    old_lake.read_only = True
    check_lake_settings(old_lake)
    assert old_fingerprint() in old_lake.files[SETTINGS_FILE]


@pytest.mark.parametrize("broken", [None, 7, {}, {"kdf": "md5"}, {"n": 2**40, "r": 8, "p": 1}])
def test_a_fingerprint_that_cannot_be_read_is_no_ones(old_lake, broken):
    kept = old_lake.get_json(SETTINGS_FILE) | {"salt_fingerprint": broken}
    old_lake.put_json(SETTINGS_FILE, kept)
    with pytest.raises(StediError, match="another STEDI_SUBJECT_SALT"):
        check_lake_settings(old_lake)


def test_of_two_processes_that_make_a_lake_at_once_the_second_is_refused_where_it_differs():
    class Late(Store):
        """Another process writes its settings between this one's look and its write."""

        def put(self, path: str, body: bytes, **condition: str) -> str:
            if not self.files:
                other = Store(dataclasses.replace(OURS, subject_salt="another salt, long enough"))
                check_lake_settings(other)
                self.files |= other.files
            return super().put(path, body, **condition)

    with pytest.raises(StediError, match="another STEDI_SUBJECT_SALT"):
        check_lake_settings(Late())


@pytest.mark.parametrize("damaged", ["", "{", "7", '"text"'])
def test_a_damaged_file_is_written_anew(damaged):
    store = Store(**{SETTINGS_FILE: damaged})
    check_lake_settings(store)
    assert store.get_json(SETTINGS_FILE)["consent_scope"] == OURS.consent_scope
    check_lake_settings(store)


def test_a_salts_identity_is_the_same_in_every_process_and_another_in_another_lake():
    others = ({"bucket": "other"}, {"subject_salt": "another salt that is long"})
    identity = salt_identity(OURS)
    salt_identity.cache_clear()
    assert salt_identity(OURS) == identity
    for other in others:
        assert salt_identity(dataclasses.replace(OURS, **other)) != identity
