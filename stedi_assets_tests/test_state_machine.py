"""Histories of the state machine, each batch in a process of its own (`histories.py`)."""

import subprocess
import sys
from pathlib import Path

import pytest


def run_histories(keep: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "stedi_assets_tests.histories", "--keep", str(keep)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_after_any_short_history_a_catch_up_makes_every_table_right(tmp_path):
    run_histories(tmp_path, "--histories", "1", "--steps", "12", "--seed", "0")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_after_any_long_history_a_catch_up_makes_every_table_right(tmp_path, seed):
    run_histories(tmp_path, "--histories", "3", "--processes", "--seed", str(seed))
