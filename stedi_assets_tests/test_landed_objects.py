"""Landed objects are rewritten without a person, and what cannot be done is named, not fatal."""

import gzip
import json
import re
import tracemalloc
import uuid
from collections.abc import Iterator
from itertools import pairwise

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.landing.object_text import blocks_of_lines, content_chunks
from stedi_assets.privacy.address_search import without_address
from stedi_assets.privacy.landed_objects import Redactor, claims_in_objects
from stedi_assets.privacy.whose_record import Person
from stedi_assets.settings import load_settings
from stedi_assets_tests.conftest import FIRST

ANN = Person("ann@example.com", frozenset(), "", frozenset())
FOLDER = f"landing/accelerometer/ingest_date={FIRST}"
BOB = '{"user": "bob@example.com", "timestamp": 1, "x": 1.0, "y": 2.0, "z": 3.0}'
THEIRS = BOB.replace("bob@", "ann@")


def refusal(code: str, operation: str) -> ClientError:
    status = {"PreconditionFailed": 412, "SlowDown": 503}.get(code, 403)
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


CHANGED = ("get_object", "put_object", "head_object")


class Client:
    """The S3 client of a lake, which refuses or does something first where a test says so."""

    def __init__(self, client) -> None:
        self._client, self.before = client, {}

    def __getattr__(self, name: str):
        def call(**arguments):
            # Some servers take other forms of an etag as well; S3 does not.
            assert re.fullmatch('"[^"]+"|', arguments.get("IfMatch", "")), arguments["IfMatch"]
            for step in self.before.get((name, arguments.get("Key", "").rpartition("/")[2]), ()):
                step()
            return getattr(self._client, name)(**arguments)

        return call if name in CHANGED else getattr(self._client, name)

    def refuse(self, operation: str, name: str, code: str) -> None:
        def step() -> None:
            raise refusal(code, operation)

        self.before[operation, name] = [step]


class Store(ObjectStore):
    """A lake over such a client."""

    @property
    def client(self):
        return self.__dict__.setdefault("_client", Client(super().client))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("STEDI_LAKE", f"s3://stedi/{uuid.uuid4().hex}")
    return Store(load_settings())


def put(store: ObjectStore, **objects: str | bytes) -> None:
    for name, text in objects.items():
        body = text.encode() if isinstance(text, str) else text
        store.put(f"{FOLDER}/{name}", body)


def text_of(store: ObjectStore, name: str) -> str:
    key = store.settings.key(f"{FOLDER}/{name}")
    return store.client.get_object(Bucket=store.settings.bucket, Key=key)["Body"].read().decode()


def take_out(store: ObjectStore, person: Person = ANN):
    changes: list[int] = []
    redactor = Redactor(store, person, lambda: changes.append(1))
    redactor.take_out()
    assert bool(changes) == redactor.taken.was_found
    return redactor.taken


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("InvalidObjectState", "archived: restore it, then repeat"),
        ("AccessDenied", "access denied"),
        ("SlowDown", "S3 answers SlowDown"),
    ],
)
@pytest.mark.parametrize("operation", ["get_object", "put_object"])
def test_an_object_that_s3_refuses_is_named_and_the_others_are_done(store, code, reason, operation):
    put(store, a=THEIRS, b=f"{THEIRS}\n{BOB}", c=BOB)
    store.client.refuse(operation, "a", code)
    taken = take_out(store)
    assert taken.unread == {f"{FOLDER}/a": reason}
    assert taken.to_be_repeated
    assert taken.records["accelerometer_landing"] == 1
    assert text_of(store, "b") == BOB
    store.client.before.clear()
    taken = take_out(store)
    assert (taken.records["accelerometer_landing"], taken.unread) == (1, {})
    assert text_of(store, "a") == ""


@pytest.mark.parametrize("operation", ["get_object", "put_object", "head_object"])
def test_an_object_that_s3_gives_no_answer_for_is_named_and_to_be_repeated(store, operation):
    put(store, a=THEIRS, b=THEIRS)

    def no_answer() -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")

    if operation == "head_object":
        store.client.refuse("put_object", "a", "PreconditionFailed")
    store.client.before[operation, "a"] = [no_answer]
    taken = take_out(store)
    assert list(taken.unread) == [f"{FOLDER}/a"]
    assert taken.to_be_repeated
    assert text_of(store, "b") == ""


def test_an_object_that_vanishes_is_named_and_need_not_be_repeated(store):
    put(store, a=THEIRS, b=THEIRS)
    store.client.before["get_object", "a"] = [lambda: store.delete([f"{FOLDER}/a"])]
    taken = take_out(store)
    assert taken.unread == {f"{FOLDER}/a": "deleted while it was searched"}
    assert not taken.to_be_repeated
    assert text_of(store, "b") == ""


@pytest.mark.parametrize("operation", ["get_object", "put_object"])
def test_what_others_write_while_an_object_is_rewritten_is_not_lost(store, operation):
    put(store, a=THEIRS)
    written = iter([f"{THEIRS}\n{BOB}"])

    def write_beside() -> None:
        for text in written:  # once
            put(store, a=text)

    store.client.before[operation, "a"] = [write_beside]
    taken = take_out(store)
    assert text_of(store, "a") == BOB
    assert (taken.records["accelerometer_landing"], taken.unread) == (1, {})


def test_an_object_that_others_write_all_the_time_is_named(store):
    put(store, a=THEIRS)
    store.client.refuse("put_object", "a", "PreconditionFailed")
    taken = take_out(store)
    assert taken.unread == {f"{FOLDER}/a": "written by others all the time: repeat"}
    assert taken.to_be_repeated


def test_text_that_cannot_be_searched_is_named_with_the_reason(store):
    utf16 = THEIRS.encode("utf-16-le")
    put(store, utf16=utf16, latin="é".encode("latin-1"), cut=f"user={ANN.email}")
    put(store, **{"zip.gz": gzip.compress(THEIRS.encode())[:-9]})
    taken = take_out(store)
    unsure = "holds text that may be of the person: look into it"
    assert taken.unread == {
        f"{FOLDER}/utf16": unsure,
        f"{FOLDER}/latin": "not UTF-8",
        f"{FOLDER}/cut": unsure,
        f"{FOLDER}/zip.gz": "gzip cut short",
    }
    assert not taken.was_found
    assert not taken.to_be_repeated


def test_objects_named_after_the_person_are_named_without_the_address(store):
    names = ["ANN@example.com.json", "ann%2540example.com", "_ann@example.com.gz"]
    names += ["joann@example.com", "ann@example.community"]
    put(store, **dict.fromkeys(names, b"{}"))
    taken = take_out(store)
    assert sorted(taken.named) == [
        f"{FOLDER}/(address)",
        f"{FOLDER}/(address).json",
        f"{FOLDER}/_(address).gz",
    ]
    assert taken.unread == {f"{FOLDER}/_(address).gz": "not gzip"}


@pytest.mark.parametrize(
    "name", ["ann%40example.com", "ann%2540example.com", "x-ANN%40EXAMPLE.COM"]
)
def test_what_s3_refuses_is_named_without_the_address_however_its_key_is_escaped(store, name):
    put(store, **{name: THEIRS})
    store.client.refuse("get_object", name, "EndpointConnectionError")
    taken = take_out(store)
    assert "40example" not in str(taken).lower().replace("25", "")


@pytest.mark.parametrize("name", ["{}@example.com.json.gz", "{}%2540example.com.gz"])
def test_objects_named_after_somebody_else_are_named_without_their_address(store, name):
    """In an audit row it would stay for ever, also when they are forgotten."""
    put(store, **{name.format(who): b"no gzip" for who in ("bob", "carol")})
    store.client.refuse("get_object", name.format("dave"), "EndpointConnectionError")
    put(store, **{name.format("dave"): BOB, f"{name.format('eve')},ann@example.com": BOB})
    taken = take_out(store)
    said = str(taken).lower()
    assert not any(who in said for who in ("bob", "carol", "dave", "eve", "ann@"))
    assert taken.named == [f"{FOLDER}/…"]
    assert sorted(taken.unread) == [f"{FOLDER}/… ({n})" for n in (2, 3, 4)]
    assert sorted(taken.unread.values())[1:] == ["not gzip", "not gzip"]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("a/joann@example.com/ann@example.community", "a/joann@example.com/ann@example.community"),
        ("a/_ann@example.com_/b", "a/_(address)_/b"),
        ("reading a/ann%2540example.com.gz: refused", "reading a/(address) refused"),
        (r"a/ann\\u0040example.com", "a/(address)"),
        ("a/ann&#64;example.com", "a/(address)"),
        ("a/%2Fb/ann%40example.com", "a/%2Fb/(address)"),
    ],
)
def test_an_address_is_taken_out_of_a_key_or_message_however_it_is_escaped(shown, expected):
    assert without_address(shown, ANN.email) == expected


def test_the_devices_of_a_person_are_known_from_objects_that_no_table_holds(store):
    def record(email: str, number: object) -> str:
        fields = {"registrationDate": 1, "lastUpdateDate": 1}
        return json.dumps({"email": email, "serialNumber": number} | fields)

    mine = [record(" ANN@example.com", "d1 "), record("ann@example.com", 7)]
    others = [record("bob@example.com", "d2"), record("bob@example.com", "\t7")]
    shared = record("ann@example.com", "d2").replace("d2", "\\u0064\\u0032")
    store.put("landing/customer/stray", "\n".join([*mine, *others, shared]).encode())
    person = claims_in_objects(store, ANN).person
    assert person.devices == {"d1"}
    assert person.shared == {"7", "d2"}


@pytest.mark.parametrize("code", ["InvalidObjectState", "AccessDenied", "SlowDown"])
def test_a_customer_object_that_s3_does_not_give_leaves_it_open_whose_devices_are(store, code):
    store.put("landing/customer/a", THEIRS.encode())
    store.client.refuse("get_object", "a", code)
    assert claims_in_objects(store, ANN).unanswered == 1


def test_of_a_thousand_similar_addresses_exactly_one_is_taken(store):
    stems = ["ann", "o'ann", "ann.b", "ann-b", "ann+b", "ann&b", "b=ann", "éann", "anné", "ann_b"]
    people = [f"{stem}@{n}example.com" for n in ["", *range(1, 100)] for stem in stems]
    lines = [BOB.replace("bob@example.com", email) for email in people]
    put(store, a="\n".join(lines), b="\n".join(line[:-1] for line in lines))
    taken = take_out(store)
    assert len(people) == 1000
    assert taken.records["accelerometer_landing"] == 2
    assert text_of(store, "a").splitlines() == [
        line for line in lines if '"ann@example' not in line
    ]
    assert len(text_of(store, "b").splitlines()) == 999


@pytest.mark.parametrize("name", ["big.json", "big.json.gz"])
def test_memory_does_not_grow_with_an_object(store, name):
    lines = f"{BOB}\n" * 400_000  # 30 MB
    text = f"\ufeff{lines}{THEIRS}\r\n{lines}"
    put(store, **{name: gzip.compress(text.encode(), 1) if name.endswith("gz") else text})
    del text
    tracemalloc.start()
    taken = take_out(store)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken.records["accelerometer_landing"] == 1
    assert most < 12 << 20
    body = b"".join(content_chunks(store, f"{FOLDER}/{name}"))
    assert body == f"{lines}{lines}".encode()


@given(
    st.lists(st.sampled_from(["a", "é😀", "\n", "\r", "\r\n", ""]), max_size=9),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_a_text_that_comes_in_chunks_is_divided_between_its_lines(parts, cuts):
    text = "".join(parts)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[start:end] for start, end in pairwise(bounds)]
    blocks = list(blocks_of_lines(chunks))
    assert "".join(blocks) == text
    divided = [line for block in blocks for line in block.splitlines(keepends=True)]
    assert divided == text.splitlines(keepends=True)
