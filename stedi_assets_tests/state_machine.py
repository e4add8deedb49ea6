"""Whatever happens to a lake, a catch-up makes every table the reference's, a second does nothing.

A hypothesis state machine: each history is some tens of steps out of small alphabets of people,
devices, moments and dates, so that collisions are the rule. It wants a process of its own, whose
lake is behind a proxy that can fail requests: `histories.py` makes one.
"""

import os
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, ClassVar

import dagster as dg
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from hypothesis import assume, note
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bench.s3_proxy_process import S3ProxyProcess
from stedi_assets.errors import StediError
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests import driver, seams
from stedi_assets_tests.conftest import TestLake
from stedi_assets_tests.happenings import (
    BY_HAND,
    COMMANDS,
    FAULTS,
    FIRST,
    LANDED,
    LINES,
    LOSSES,
    NAMES,
    WHOLE,
    Change,
    Faults,
    customer,
    landing_object,
)

PEOPLE = {
    "customer_trusted": "email",
    "customers_curated": "email",
    "accelerometer_trusted": "user",
}


def compact_or_roll_back(store: Any, path: str, back: int) -> None:
    """By delta-rs, as anybody may: 0 compacts, else back by some versions if they are there."""
    try:
        delta = DeltaTable(store.settings.uri(path), storage_options=store.storage_options)
    except TableNotFoundError:
        return
    if back:
        delta.restore(max(0, delta.version() - back))
    else:
        delta.optimize.compact()


def is_of(what: str, key: str) -> bool:
    """Whether an object in a table's folder is of the kind that is lost."""
    log = "/_delta_log/" in key
    if what in ("file", "end of a file"):
        return not log
    checkpoint = ".checkpoint." in key
    return what == "table" or (log and checkpoint == (what == "checkpoint"))


class World(RuleBasedStateMachine):
    """A lake, who works on it, and what they do; no rule of its own."""

    proxy: S3ProxyProcess  # set by who runs it
    kills_processes = False
    # Every failure when it first came: hypothesis does a history again before it tells.
    failures: ClassVar[list[str]] = []

    def create(self, scope: str) -> None:
        """A new lake."""
        os.environ["STEDI_LAKE"] = f"s3://stedi/{uuid.uuid4().hex}"
        os.environ["STEDI_CONSENT_SCOPE"] = scope
        self.objects: dict[str, bytes] = {}
        self.new_process()
        self.exits = ExitStack()
        self.new_dagster()
        # Whether the tables are known to be right; whether a file of theirs may be lost.
        self.clock, self.right, self.lossy = 10, False, False

    def new_process(self) -> None:
        self.lake = TestLake()
        self.lake.objects = self.objects

    def new_dagster(self) -> None:
        self.exits.close()
        self.dagster = self.exits.enter_context(dg.DagsterInstance.ephemeral())
        self.cursor: str = "0"

    def land_these(self, first: list[Any]) -> None:
        """Objects land, and people's newest records: the tables may be wrong from here on."""
        self.right = False
        for one in first:
            if isinstance(one, Change):
                self.clock += 1
                line = customer(one.person, one.device, one.share, self.clock)
                one = (f"landing/customer/ingest_date={one.day}/{self.clock}", line.encode())
            self.lake.put(dict([one]))

    def run(self, command: Any) -> None:
        if command is None:
            self.run_catch_up()
        else:
            (start, end), tables = command
            self.lake.materialize(start, end, *tables)

    def run_catch_up(self) -> None:
        lines: list[str] = []
        try:
            self.lake.catch_up(say=lines)
        except Exception:
            note("\n".join(lines))
            raise

    def attempt(self, command: Any) -> None:
        """Run what may fail: its tables' inputs may not be there, or it is disturbed.

        It fails with a line for people, and never otherwise.
        """
        try:
            self.run(command)
        except (StediError, dg.DagsterError) as error:
            note(f"it failed: {type(error).__name__}")

    def disturbed(self, faults: Faults, action: Callable[[], None]) -> None:
        self.proxy.set_fault(faults)
        try:
            action()
        finally:
            self.proxy.set_fault(None)

    def keys(self, path: str) -> list[str]:
        return [found["Key"] for found in self.lake.lake.objects(path)]

    def people_left(self) -> set[str]:
        """Who is in a table of people past the landing zone, and does not consent.

        (Who consents may be left, without readings now, in what was begun and not finished.)
        """

        def people(name: str, rows: Iterable[tuple[Any, ...]]) -> set[str]:
            at = TABLES[name].column_names.index(PEOPLE[name])
            return {row[at] for row in rows}

        consenting = people("customer_trusted", self.lake.expected()["customer_trusted"])
        found = set[str]().union(*(people(name, self.lake.table(name)) for name in PEOPLE))
        return found - consenting

    def must_be_right(self, how: str) -> None:
        if how == "erase":  # it leaves new dates to the catch-up after it
            seams.erase(self.lake)
            assert self.people_left() == set(), "somebody who withdrew is in a table after erase"
            self.run_catch_up()
        elif how == "sensor" and not self.lossy:  # a tick lists no data files
            self.new_dagster()  # runs that failed before are tried again
            driver.until_quiet(self.lake, self.dagster)
        else:
            self.run_catch_up()
        wrong = self.lake.differences()
        assert wrong == {}, f"after {how}: {wrong}"
        assert self.lake.catch_up() == 0, f"a catch-up after {how} found something to do"
        self.right, self.lossy = True, False

    def teardown(self) -> None:
        """Every history that went well so far ends with a catch-up."""
        error = sys.exc_info()[1]
        try:
            if hasattr(self, "exits") and error is None and not self.right:
                self.must_be_right("catch-up")
        except Exception as last:
            error = last
            raise
        finally:
            if isinstance(error, Exception) and not isinstance(error, HypothesisException):
                self.failures.append("".join(traceback.format_exception(error)))
            if hasattr(self, "exits"):
                self.exits.close()


class Lakehouse(World):
    """What may happen to a lake."""

    @initialize(
        scope=st.sampled_from(["customer", "reading"]),
        objects=st.tuples(*(landing_object(entity) for entity in 2 * list(LINES))),
    )
    def begin(self, scope: str, objects: tuple[tuple[str, bytes], ...]) -> None:
        assume(any(body for _, body in objects))  # hypothesis tries first that nothing happens
        self.create(scope)
        self.lake.put(dict(objects))

    # ------------------------------------------------------------------ what lands

    @rule(first=st.lists(LANDED, min_size=1, max_size=4))
    def land(self, first: list[Any]) -> None:
        self.land_these(first)

    @rule(nth=st.integers(0, 20))
    def remove(self, nth: int) -> None:
        self.land_these([])
        if self.lake.objects:
            self.lake.remove(sorted(self.lake.objects)[nth % len(self.lake.objects)])

    # ------------------------------------------------------------------ what runs

    @rule(first=FIRST, command=st.one_of(BY_HAND, WHOLE))
    def run_by_hand(self, first: list[Any], command: Any) -> None:
        self.land_these(first)
        self.attempt(command)

    @rule(
        first=FIRST,
        command=COMMANDS,
        point=st.sampled_from(seams.POINTS),
        when=st.sampled_from(["before", "after"]),
        table=st.sampled_from([None, *NAMES]),
        nth=st.integers(1, 6),
    )
    def run_and_die(
        self, first: list[Any], command: Any, point: str, when: str, table: Any, nth: int
    ) -> None:
        self.land_these(first)
        with seams.kill(point, table, when, nth if table is None else 1) as died:
            self.attempt(command)
        note(f"killed {when} the {point} of {died or 'nothing'}")

    @rule(first=FIRST, command=COMMANDS, faults=FAULTS)
    def run_while_requests_fail(self, first: list[Any], command: Any, faults: Faults) -> None:
        self.land_these(first)
        self.disturbed(faults, lambda: self.attempt(command))

    @precondition(lambda self: self.kills_processes)
    @rule(first=FIRST, nth=st.integers(0, 60), when=st.sampled_from(["before", "after"]))
    def catch_up_in_a_process_that_is_killed(self, first: list[Any], nth: int, when: str) -> None:
        """At its nth write to S3."""
        self.land_these(first)
        command = [sys.executable, "-m", "stedi_assets.cli", "catch-up"]
        nowhere = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as process:
            self.disturbed(Faults({}, False, (nth, when), process.pid), process.wait)

    @rule(first=FIRST)
    def tick(self, first: list[Any]) -> None:
        """One evaluation of the sensor, and the runs that it asks for."""
        self.land_these(first)
        try:
            result = driver.tick(self.lake, self.dagster, self.cursor)
        except StediError as error:  # it gave up on runs that failed, where a file was lost
            note(f"it failed: {error}")
            return
        self.cursor = str(result.cursor)
        for request in result.run_requests:
            driver.execute(self.lake, self.dagster, request)

    # ------------------------------------------------------------------ what is cleaned and lost

    @rule(name=st.sampled_from(NAMES), back=st.integers(0, 3))
    def compact_or_roll_back(self, name: str, back: int) -> None:
        self.land_these([])
        self.lossy = True
        try:
            compact_or_roll_back(self.lake.lake, TABLES[name].path, back)
        except (DeltaError, OSError, ValueError) as error:  # a file was lost or erased
            note(f"it failed: {type(error).__name__}")

    @rule(what=st.sampled_from(LOSSES), nth=st.integers(0, 30), name=st.sampled_from(NAMES))
    def lose(self, what: str, nth: int, name: str) -> None:
        self.land_these([])
        if what == "dagster":
            self.new_dagster()
        elif what == "process":
            self.new_process()
        elif what in ("entry", "_stedi"):
            found = [key for key in self.keys("_stedi/") if not key.endswith("settings.json")]
            one = [found[nth % len(found)]] if found else []
            self.lake.lake.delete(found if what == "_stedi" else one)
        else:
            self.lossy = True
            found = [k for k in self.keys(f"{TABLES[name].path}/") if is_of(what, k)]
            one = found if what == "table" else [found[nth % len(found)]] if found else []
            if what == "end of a file":
                for key in one:
                    self.lake.lake.put(key, (self.lake.lake.get(key) or (b"",))[0][:-8])
            else:
                self.lake.lake.delete(one)

    # ------------------------------------------------------------------ what must be

    @rule(first=FIRST, how=st.sampled_from([*3 * ["catch-up"], "sensor", "sensor", "erase"]))
    def catch_up(self, first: list[Any], how: str) -> None:
        if self.right and not first:
            return
        self.land_these(first)
        self.must_be_right(how)
