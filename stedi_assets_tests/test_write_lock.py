"""The lock of a table: one holder at a time, taken over when its holder is dead, and only then."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from stedi_assets.errors import StediError
from stedi_assets.lakehouse import write_lock as module
from stedi_assets.lakehouse.write_lock import write_lock


def locks(lake) -> list[str]:
    return [found["Key"] for found in lake.lake.objects("_stedi/locks/")]


def last_written(lake) -> datetime:
    (lock,) = lake.lake.objects("_stedi/locks/")
    return lock["LastModified"]


def test_writers_of_a_table_take_turns_and_leave_nothing(lake, monkeypatch):
    inside: list[int] = []
    most: list[int] = []
    refused = threading.Semaphore(0)
    condition = module._condition

    def looked_at(found):
        refused.release()
        return condition(found)

    monkeypatch.setattr(module, "_condition", looked_at)

    def write() -> None:
        with write_lock(lake.lake, "a_table"):
            inside.append(1)
            most.append(len(inside))
            if len(most) < len(threads):
                assert refused.acquire(timeout=30)  # another one waits
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


def test_a_lock_that_is_not_there_and_cannot_be_put_is_an_error(lake, monkeypatch):
    """The server takes its key for a folder."""
    lake.put({"_stedi/locks/a_table/x": b""})
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 1)
    with (
        pytest.raises(StediError, match="below _stedi/locks/a_table/"),
        write_lock(lake.lake, "a_table"),
    ):
        pass
    assert locks(lake) == ["_stedi/locks/a_table/x"]


def in_order(lake, while_held: Callable[[threading.Thread], object]) -> list[str]:
    """The order of two writers; while_held: what the first does while the second waits for it."""
    order: list[str] = []

    def second() -> None:
        with write_lock(lake.lake, "a_table"):
            order.append("second")

    with write_lock(lake.lake, "a_table"):
        thread = threading.Thread(target=second)
        thread.start()
        while_held(thread)
        order.append("first")
    thread.join()
    return order


def test_a_lock_that_is_held_for_long_is_waited_for(lake, monkeypatch):
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 0.5)
    assert in_order(lake, lambda waiting: waiting.join(1.5)) == ["first", "second"]


def test_a_lock_from_the_future_is_taken_over(lake):
    """S3's clock was set back since its holder was killed."""
    now = datetime.now(UTC)
    found = {
        "ETag": "e",
        "LastModified": now + timedelta(hours=1),
        "ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(now, usegmt=True)}},
    }
    assert module._condition(found) == {"IfMatch": "e"}


def test_a_live_writer_keeps_its_lock_for_longer_than_a_lease(lake, monkeypatch):
    monkeypatch.setattr(module, "LEASE", timedelta(seconds=2))
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.2)

    def longer_than_a_lease(waiting: threading.Thread) -> None:
        since = last_written(lake)  # by S3's clock
        while last_written(lake) - since <= module.LEASE + timedelta(seconds=1):
            assert waiting.is_alive()

    assert in_order(lake, longer_than_a_lease) == ["first", "second"]


@pytest.mark.parametrize("renewed", [True, False])
def test_a_writer_whose_lock_was_taken_over_says_so_and_leaves_the_new_holders_alone(
    lake, monkeypatch, renewed
):
    """Whether a renewal notices, or, where none came meanwhile, the release."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.1 if renewed else 1000)
    looked = threading.Event()
    ours = module._Held._is_still_ours

    def is_still_ours(held):
        found = ours(held)
        looked.set()
        return found

    monkeypatch.setattr(module._Held, "_is_still_ours", is_still_ours)

    def write() -> None:
        with write_lock(lake.lake, "a_table"):
            lake.put({"_stedi/locks/a_table": b"of another"})
            assert not renewed or looked.wait(30)

    with pytest.raises(StediError, match="Lost the write lock on"):
        write()
    assert locks(lake) == ["_stedi/locks/a_table"]


@pytest.mark.parametrize("lost", ["of taking it", "of a renewal"])
def test_a_lost_answer_is_not_a_lost_lock(lake, monkeypatch, lost):
    """The put got there, its answer did not, and botocore asked again."""
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.1 if lost == "of a renewal" else 1000)
    renewed = threading.Event()
    client = lake.lake.client
    put_object = client.put_object

    def put_twice(**arguments):
        if ("IfMatch" in arguments) == (lost == "of a renewal"):
            put_object(**arguments)
            renewed.set()
        return put_object(**arguments)

    monkeypatch.setattr(client, "put_object", put_twice)
    with write_lock(lake.lake, "a_table"):
        assert lost != "of a renewal" or renewed.wait(30)
    assert locks(lake) == []
