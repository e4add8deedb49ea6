"""Runs histories of the state machine in this process, on a server and a proxy of its own.

    python -m stedi_assets_tests.histories [--seed 0] [--histories 10] [--steps 60] [--processes]
        [--shrink] [--verbose] [--keep DIR]

The same arguments give the same histories. Where one fails, its seed and steps are printed and kept
in a file, and the exit code is 1. --processes: some catch-ups run in a process that is killed.
--shrink: look for a shorter history that fails. With STEDI_SPARK set, on that engine.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from bench.s3_proxy_process import S3ProxyProcess
from stedi_assets.local import s3_server as local
from stedi_assets_tests.conftest import OURS, SALT
from stedi_assets_tests.state_machine import Lakehouse


@contextlib.contextmanager
def lake_behind_a_proxy() -> Iterator[S3ProxyProcess]:
    """A server for this process alone, reached through a proxy; no setting of the person's left."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "STEDI_", "DAGSTER_")) and name not in OURS:
            del os.environ[name]
    with (
        tempfile.TemporaryDirectory() as folder,
        local.local_s3(Path(folder) / "s3") as server,
        S3ProxyProcess(server.endpoint) as proxy,
    ):
        os.environ.update(local.local_environment(server, os.environ, SALT))
        os.environ |= {"AWS_ENDPOINT_URL": proxy.endpoint, "STEDI_QUIET_SECONDS": "0"}
        yield proxy


def run_histories(arguments: argparse.Namespace) -> None:
    """The histories of a seed; raises where one fails."""
    phases = [Phase.generate, *([Phase.shrink] if arguments.shrink else [])]
    run_state_machine_as_test(
        seed(arguments.seed)(Lakehouse),
        settings=settings(
            max_examples=arguments.histories,
            stateful_step_count=arguments.steps,
            phases=phases,
            database=None,
            deadline=None,
            print_blob=False,
            verbosity=Verbosity.debug if arguments.verbose else Verbosity.normal,
            suppress_health_check=list(HealthCheck),
        ),
    )


def main() -> None:
    """Parse the arguments, start the server and the proxy, run the histories."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--histories", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60, help="of a history")
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="print every step")
    parser.add_argument("--keep", type=Path, default=Path("build/histories"))
    arguments = parser.parse_args()
    started, failed = time.monotonic(), ""
    with lake_behind_a_proxy() as proxy, Path(os.devnull).open("w") as nowhere:
        Lakehouse.proxy, Lakehouse.kills_processes = proxy, arguments.processes
        try:
            # Dagster tells every event on stderr.
            with contextlib.redirect_stderr(sys.stderr if arguments.verbose else nowhere):
                run_histories(arguments)
        except Exception:
            failed = traceback.format_exc()
    same = f"--seed {arguments.seed} --histories {arguments.histories} --steps {arguments.steps}"
    same += " --processes" if arguments.processes else ""
    if failed:
        failed = "\n".join([*Lakehouse.failures[:1], failed])
        again = f"Again: python -m stedi_assets_tests.histories {same}"
        arguments.keep.mkdir(parents=True, exist_ok=True)
        path = arguments.keep / f"seed-{arguments.seed}.txt"
        path.write_text(f"{failed}\n{again}\n", encoding="utf-8")
        print(f"{failed}\n{again}")
    print(f"{'FAILED' if failed else 'passed'}: {same}, {time.monotonic() - started:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
