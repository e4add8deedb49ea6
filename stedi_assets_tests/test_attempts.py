"""What was begun and not finished is tried last and in halves, so that all the rest gets built."""

from datetime import date, timedelta
from itertools import combinations

import pytest

from stedi_assets.incremental.attempts import ATTEMPTS_FOLDER, begin, end, read_attempts
from stedi_assets.incremental.ledger import PartitionKey

TABLE = "accelerometer_landing"
DATES = [date(2022, 6, 18) + timedelta(n) for n in range(5)]


def build_or_die(lake, keys: set[PartitionKey], bad: set[date]) -> set[PartitionKey]:
    """Try partitions; what is built of them: nothing where the process dies."""
    attempts = begin(lake.lake, read_attempts(lake.lake), TABLE, keys)
    if bad.intersection(keys):
        return set()
    end(lake.lake, attempts, TABLE, keys)
    return keys


def a_process(lake, left: set[PartitionKey], bad: set[date]) -> set[PartitionKey]:
    """What one process builds of what is left, until it dies."""
    built: set[PartitionKey] = set()
    unfinished = read_attempts(lake.lake)
    new = left.difference(*(attempt.keys for attempt in unfinished))
    for keys in [new, *(set(half) for attempt in unfinished for half in attempt.halves)]:
        if keys and not (done := build_or_die(lake, keys, bad)):
            break
        built |= done if keys else set()
    return built


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_whichever_dates_kill_the_process_each_time_all_others_are_built(lake, count):
    dates = DATES[:count]
    for bad in (set(some) for n in range(count + 1) for some in combinations(dates, n)):
        lake.lake.delete_below(ATTEMPTS_FOLDER)
        left: set[PartitionKey] = set(dates)
        for _ in range(3 * count):
            left -= a_process(lake, left, bad)
        assert left == bad
        assert {key for attempt in read_attempts(lake.lake) for key in attempt.keys} == bad


def test_tries_are_how_often_any_of_the_partitions_was_begun(lake):
    first, second, third = DATES[:3]
    for keys in ([first, second, third], [first], [first], [second]):
        begin(lake.lake, read_attempts(lake.lake), TABLE, keys)
    begin(lake.lake, read_attempts(lake.lake), "customer_trusted", [None])
    tried = [(a.table, sorted(map(str, a.keys)), a.tries) for a in read_attempts(lake.lake)]
    assert tried == [
        (TABLE, [str(third)], 1),
        (TABLE, [str(first)], 3),
        (TABLE, [str(second)], 2),
        ("customer_trusted", ["None"], 1),
    ]


@pytest.mark.parametrize("number", ["9223372036854775807", "1e308", "-1", "true"])
def test_numbers_that_nobody_wrote_do_not_keep_others_from_being_noted(lake, number):
    lake.lake.put(f"{ATTEMPTS_FOLDER}customer_trusted.json", f"[[{number},1,[]]]".encode())
    begin(lake.lake, read_attempts(lake.lake), TABLE, DATES[:1])
    assert [attempt.table for attempt in read_attempts(lake.lake)] == [TABLE]
