"""`stedi sample`: the same bytes for a seed, and what it says of itself is so."""

import gzip
import json
import re
import tracemalloc
from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stedi_assets.local.sample_data import ENTITIES, OBJECT_RECORDS, SampleError, write_sample
from stedi_assets_tests.reference import expected_tables

DATES = ["2022-06-18", "2022-06-19", "2022-06-20"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sample of the default size."""
    folder = tmp_path_factory.mktemp("sample") / "sample"
    return folder, write_sample(folder)


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def text_of(name: str, body: bytes) -> str:
    return (gzip.decompress(body) if name.endswith(".gz") else body).decode()


def scan(folder: Path, entity: str, day: str) -> list[tuple[str, str]]:
    """(object's name, record's text) of everything that landed of an entity on a day."""
    found = []
    for name, body in files(folder / entity / f"ingest_date={day}").items():
        for line in text_of(name, body).splitlines():
            rest = line
            while rest:
                try:
                    _, end = json.JSONDecoder().raw_decode(rest)
                except ValueError:
                    end = len(rest)
                found.append((name, rest[:end]))
                rest = rest[end:]
    return found


def meant(text: str) -> bool:
    """Whether a record's text is no malformed one; those name nobody's address and no device."""
    return text[0] == "{" and not any(odd in text for odd in ("nobody@", '"none"', '"  "'))


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, customers=60, seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    other = files(tmp_path / "c")
    assert all(other.get(name) != body for name, body in files(tmp_path / "a").items())


def test_layout(sample: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = sample
    names = files(folder)
    pattern = (
        rf"({'|'.join(ENTITIES)})/ingest_date=({'|'.join(DATES)})/(\1|late)-\d{{4}}\.json(\.gz)?"
    )
    assert all(re.fullmatch(pattern, name) for name in names if name != "sample.json")
    assert sum(map(len, names.values())) < 2_000_000
    assert {day for name in names for day in DATES if f"accelerometer/ingest_date={day}/" in name}
    assert any(name.endswith(".gz") for name in names)
    assert any("/late-" in name for name in names)
    assert any(b"\r\n" in body for body in names.values())
    assert all(any(b"}{" in body for n, body in names.items() if n.startswith(e)) for e in ENTITIES)
    assert any(b'"timeStamp"' in body for body in names.values())


def test_sample_json_counts_what_a_scan_finds(sample: tuple[Path, dict[str, Any]]) -> None:
    folder, counts = sample
    assert json.loads((folder / "sample.json").read_text()) == counts
    reference = expected_tables(
        {f"landing/{name}": body for name, body in files(folder).items() if "/" in name},
        scope="customer",
        salt="s",
        first=date(2022, 6, 18),
        today=date(2022, 6, 20),
    )
    for entity in ENTITIES:
        seen: set[str] = set()
        rows = reference[f"{entity}_landing"]
        for day in DATES:
            records = scan(folder, entity, day)
            said = counts["entities"][entity][day]
            assert said["records"] == len(records)
            assert said["malformed"] == sum(
                n for row, n in rows.items() if str(row[-1]) == day and row[-2] is not None
            )
            assert said["late"] == sum(name.startswith("late-") for name, _ in records)
            assert said["objects"] == len({name for name, _ in records})
            # A malformed text may be there on two days and is no repeat of a reading.
            texts = [text for _, text in records if meant(text)]
            assert said["repeats"] == len(texts) - len(set(texts) - seen)
            seen.update(texts)
    assert counts["total"]["records"] == sum(counts["total"][entity] for entity in ENTITIES)
    assert counts["total"]["consenting"] == len(reference["customer_trusted"])
    assert reference["machine_learning_curated"].total() > 1000


def test_every_odd_case_is_in_the_default_sample(sample: tuple[Path, dict[str, Any]]) -> None:
    _, counts = sample
    total = counts["total"]
    odd = ["malformed", "repeats", "late", "withdrawn", "granted", "updated", "devices_of_two"]
    assert all(total[what] > 0 for what in odd), total
    assert all(counts["customers"][day]["new"] for day in DATES)
    for entity in ENTITIES:
        for said in counts["entities"][entity].values():
            assert said["malformed"] <= 0.05 * said["records"]
    for entity in ("accelerometer", "step_trainer"):
        assert sum(said["late"] for said in counts["entities"][entity].values())
        assert counts["entities"][entity][DATES[0]]["repeats"]


def test_people_change_as_counted(tmp_path: Path) -> None:
    counts = write_sample(tmp_path / "s", customers=150, days=12, changing=0.1)
    histories: dict[str, dict[int, Any]] = defaultdict(dict)
    for day in counts["customers"]:
        for _, text in scan(tmp_path / "s", "customer", day):
            if meant(text):
                record = json.loads(text)
                agreed = record.get("shareWithResearchAsOfDate")
                histories[record["email"]][record["lastUpdateDate"]] = agreed
    found: Counter[str] = Counter()
    for history in histories.values():
        states = [history[at] for at in sorted(history)]
        for before, after in pairwise(states):
            kind = "updated" if bool(before) == bool(after) else "granted" if after else "withdrawn"
            found[kind] += 1
            assert kind != "updated" or (before or 0) == (after or 0)
        found["consenting"] += bool(states[-1])
    assert len(histories) == 150
    assert found == {what: counts["total"][what] for what in found}
    assert min(found.values()) > 5


def test_readings_are_of_their_day(sample: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = sample
    for entity, field in (("accelerometer", "timestamp"), ("step_trainer", "sensorReadingTime")):
        for day, before in zip(DATES[1:], DATES[:-1], strict=True):
            for name, text in scan(folder, entity, day):
                if not meant(text):
                    continue
                record = json.loads(text)
                at = datetime.fromtimestamp((record.get(field) or record["timeStamp"]) / 1000, UTC)
                assert str(at.date()) in ({before} if name.startswith("late-") else {day, before})


def test_people_are_made_up_and_not_in_sample_json(sample: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = sample
    for day in DATES:
        for _, text in scan(folder, "customer", day):
            if meant(text):
                record = json.loads(text)
                assert record["email"].endswith("@example.com")
                assert re.fullmatch(r"80[12]55501\d\d", record["phone"])
    assert "@" not in (folder / "sample.json").read_text()


def test_objects_and_memory_are_bounded(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        write_sample(tmp_path / "s", customers=20_000, days=1, readings_per_customer=3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000
    for entity in ENTITIES:
        per_object = Counter(name for name, _ in scan(tmp_path / "s", entity, DATES[0]))
        assert max(per_object.values()) <= OBJECT_RECORDS + 1


@pytest.mark.parametrize("changing", [0.0, 1.0])
@pytest.mark.parametrize(("customers", "days"), [(1, 1), (1, 3), (5, 2)])
def test_small_ones(tmp_path: Path, customers: int, days: int, changing: float) -> None:
    arguments: dict[str, Any] = {"readings_per_customer": 1, "active": 1.0, "changing": changing}
    counts = write_sample(tmp_path / "s", customers=customers, days=days, **arguments)
    assert counts["total"]["customers"] == customers
    assert sum(said["new"] for said in counts["customers"].values()) == customers


@pytest.mark.parametrize(
    "arguments",
    [
        {"customers": 0},
        {"days": 0},
        {"customers": 10**19},
        {"readings_per_customer": 0},
        {"readings_per_customer": 10**9},
        {"active": 1.5},
        {"changing": -0.1},
        {"first_date": date(1969, 1, 1)},
        {"first_date": date(9999, 12, 30)},
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(SampleError, match=r"^[^\n]+$"):
        write_sample(tmp_path / "s", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine").write_text("mine")
    for folder in (tmp_path / "s", tmp_path / "s" / "mine", tmp_path / "s" / "mine" / "below"):
        with pytest.raises(SampleError, match=r"^[^\n]+$"):
            write_sample(folder)
    assert files(tmp_path) == {"s/mine": b"mine"}


def test_an_empty_folder_is_taken_and_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()

    def stop(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "s", customers=5, progress=stop)
    assert [path.name for path in tmp_path.rglob("*")] == ["s"]
    steps: list[tuple[int, int]] = []
    write_sample(tmp_path / "s", customers=5, progress=lambda *step: steps.append(step))
    assert steps[-1] == (15, 15)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
