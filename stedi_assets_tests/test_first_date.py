"""The embedded lake begins with the first date that landed on it."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from stedi_assets.lakehouse.object_store import open_store
from stedi_assets.local.first_date import adopt_first_date_of, adopt_first_landed_date
from stedi_assets.local.s3_server import local_s3
from stedi_assets.settings import load_settings, today

DAY = date(2026, 1, 5)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a running embedded lake."""
    home = tmp_path_factory.mktemp("home")
    with local_s3(home / "s3"):
        yield home


@pytest.fixture
def home(served: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The embedded lake as the person's, empty."""
    monkeypatch.delenv("STEDI_LAKE", raising=False)
    monkeypatch.setenv("STEDI_HOME", str(served))
    (served / "first_ingest_date").unlink(missing_ok=True)
    store = open_store(load_settings())
    store.delete([entry["Key"] for entry in store.objects("")])
    return served


def source(folder: Path, *days: str) -> Path:
    for day in days:
        (folder / "customer" / day).mkdir(parents=True)
        (folder / "customer" / day / "a.json").write_text("{}")
    return folder


def test_the_first_date_that_lands_is_the_lakes_first(home: Path, tmp_path: Path) -> None:
    assert load_settings().first_ingest_date == date(2022, 6, 18)
    days = ("ingest_date=2026-01-06", f"ingest_date={DAY}", "ingest_date=2999-01-01")
    adopt_first_date_of(source(tmp_path / "a", *days), today())
    assert load_settings().first_ingest_date == DAY
    adopt_first_date_of(source(tmp_path / "b", "ingest_date=2025-01-01"), today())
    assert load_settings().first_ingest_date == DAY, "its partitions begin there"


def test_what_is_in_no_dated_folder_lands_on_the_given_day(home: Path, tmp_path: Path) -> None:
    adopt_first_date_of(source(tmp_path, "export"), DAY)
    assert load_settings().first_ingest_date == DAY


def test_what_does_not_land_sets_no_first_date(home: Path, tmp_path: Path) -> None:
    folder = source(tmp_path, "ingest_date=2026-01-07")
    (folder / "customer" / "ingest_date=2026-01-03").mkdir()
    (folder / "customer" / "ingest_date=2026-01-04").mkdir()
    (folder / "customer" / "ingest_date=2026-01-04" / "_SUCCESS").touch()
    (folder / "customer" / ".DS_Store").touch()
    adopt_first_date_of(folder, DAY)
    assert load_settings().first_ingest_date == date(2026, 1, 7)


def test_a_lake_that_has_its_settings_keeps_its_first_date(home: Path, tmp_path: Path) -> None:
    open_store(load_settings()).put_json("_stedi/settings.json", {})
    adopt_first_date_of(source(tmp_path, "export"), DAY)
    assert load_settings().first_ingest_date == date(2022, 6, 18)


def test_a_first_date_that_is_set_wins(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEDI_FIRST_INGEST_DATE", "2026-01-01")
    adopt_first_date_of(source(tmp_path, "export"), DAY)
    assert not (home / "first_ingest_date").exists()


def test_a_lake_of_ones_own_has_it_from_its_setting_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt_first_date_of(source(tmp_path, "export"), DAY)
    for embedded in ("0", "1"):
        monkeypatch.setenv("STEDI_LAKE", "s3://stedi/another")
        monkeypatch.setenv("STEDI_EMBEDDED", embedded)
        assert load_settings().first_ingest_date == date(2022, 6, 18)


def test_a_lake_that_is_built_anew_begins_with_what_has_landed(home: Path, tmp_path: Path) -> None:
    adopt_first_date_of(source(tmp_path, "export"), DAY)
    store = open_store(load_settings())
    store.put("landing/customer/ingest_date=2025-12-24/a.json", b"{}")
    store.put("landing/customer/ingest_date=2999-01-01/a.json", b"{}")
    adopt_first_landed_date(store)
    assert load_settings().first_ingest_date == date(2025, 12, 24)
