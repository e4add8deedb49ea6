"""Verbs of the Makefile that run one at a time: a second one waits, or is refused."""

import subprocess
import sys
from pathlib import Path

import stedi_assets.local.exclusive as exclusive

SCRIPT = str(Path(exclusive.__file__))
HOLD = "import sys; print('in', flush=True); sys.stdin.readline(); print('out', flush=True)"


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = run("wait", tmp_path / "file" / "lock")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.endswith("cannot be made: File exists. Correct that, or STEDI_HOME.\n")
    assert err.count("\n") == 1


def run(mode: str, lock: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, SCRIPT, mode, str(lock), "make it", sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_one_is_refused_and_names_the_first(tmp_path):
    lock = tmp_path / "new" / "dev.lock"
    with run("refuse", lock) as first:
        assert first.stdout.readline() == "in\n"
        with run("refuse", lock) as second:
            out, err = second.communicate(timeout=30)
        assert (out, second.returncode) == ("", 1)
        assert err == f"make it already runs here (process {first.pid}): stop it first.\n"
        first.communicate("\n", timeout=30)
    with run("refuse", lock) as third:
        assert third.communicate("\n", timeout=30)[0] == "in\nout\n"


def test_a_second_one_waits_for_the_first(tmp_path):
    lock = tmp_path / "materialize.lock"
    with run("wait", lock) as first:
        assert first.stdout.readline() == "in\n"
        with run("wait", lock) as second:
            assert "Waiting for another make it (process" in second.stderr.readline()
            first.communicate("\n", timeout=30)
            assert second.stdout.readline() == "in\n"
            second.communicate("\n", timeout=30)
    assert (first.returncode, second.returncode) == (0, 0)
