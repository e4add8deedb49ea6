"""The lock of a table: one holder at a time, taken over when its holder is dead, and only then."""

import threading
import time
from datetime import timedelta

import pytest

from stedi_assets import write_lock as module
from stedi_assets.settings import StediError
from stedi_assets.write_lock import write_lock


def locks(lake) -> list[str]:
    return [found["Key"] for found in lake.lake.objects("_stedi/locks/")]


def test_writers_of_a_table_take_turns_and_leave_nothing(lake):
    inside: list[int] = []
    most: list[int] = []

    def write() -> None:
        with write_lock(lake.lake, "a_table"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=write) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
    assert locks(lake) == []


def test_writers_of_two_tables_do_not_wait_for_each_other(lake):
    with write_lock(lake.lake, "one"), write_lock(lake.lake, "another"):
        assert len(locks(lake)) == 2


def test_the_lock_of_a_dead_writer_is_taken_over(lake, monkeypatch):
    lake.put({"_stedi/locks/a_table": b"its holder was killed"})
    monkeypatch.setattr(module, "LEASE", timedelta(seconds=1))
    with write_lock(lake.lake, "a_table"):
        pass
    assert locks(lake) == []


def test_a_live_writer_keeps_its_lock_for_longer_than_a_lease(lake, monkeypatch):
    monkeypatch.setattr(module, "LEASE", timedelta(seconds=2))
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.2)
    order: list[str] = []

    def second() -> None:
        with write_lock(lake.lake, "a_table"):
            order.append("second")

    with write_lock(lake.lake, "a_table"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(4)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_writer_whose_lock_was_taken_over_says_so_and_leaves_the_new_holders_alone(
    lake, monkeypatch
):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.1)

    def write() -> None:
        with write_lock(lake.lake, "a_table"):
            lake.put({"_stedi/locks/a_table": b"of another"})
            time.sleep(1)

    with pytest.raises(StediError, match="another writer took its turn"):
        write()
    assert locks(lake) == ["_stedi/locks/a_table"]
