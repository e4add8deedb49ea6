"""Where a command's requests to S3 go: run it behind a counting proxy and print a table.

    stedi local -- python -m bench.requests [--latency MS] [--log FILE] -- COMMAND …

COMMAND runs with AWS_ENDPOINT_URL set to the proxy; what it is set to here is the server. A row
for each table or other component, kind of key and method. --log: every request in its order.
"""

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.s3_proxy import Request, S3Proxy, busy_seconds, most_at_once

_OWN = re.compile(r"(^|/)_stedi(/(?P<area>[^/]+))?(/|$)")
_LANDED = re.compile(
    r"(^|/)landing/(?P<entity>customer|accelerometer|step_trainer)(/(?P<rest>.*))?$"
)
_TABLE = re.compile(r"(^|/)(landing|trusted|curated)/(?P<table>[a-z]+_[a-z_]+)(/(?P<rest>.*))?$")


def method(request: Request) -> str:
    """What a request asks for: its method, or LIST, MULTI-DELETE and the multipart verbs."""
    if request.lists:
        return "LIST"
    if "delete" in request.query:
        return "MULTI-DELETE"
    if "uploads" in request.query or "uploadId" in request.query:
        return f"{request.method} part" if request.method == "PUT" else f"{request.method} upload"
    return request.method


def place(request: Request) -> tuple[str, str]:
    """The component that a key belongs to (a table, landed objects, `_stedi/…`), and its kind."""
    key = request.key
    if found := _OWN.search(key):
        return f"_stedi/{found['area'] or ''}", ""
    if found := _LANDED.search(key):
        return f"landed {found['entity']} objects", ""
    if found := _TABLE.search(key):
        return found["table"], _kind_in_table(found["rest"] or "")
    return ("bucket" if not key else "other"), ""


def _kind_in_table(rest: str) -> str:
    if not rest.startswith("_delta_log"):
        return "data file" if rest.endswith(".parquet") else "folder"
    if "_last_checkpoint" in rest:
        return "last checkpoint"
    if "checkpoint" in rest:
        return "checkpoint"
    if rest.strip("/") == "_delta_log":
        return "log"
    return "log entry" if re.search(r"/\d{20}\.json$", rest) else "other of log"


def counts(log: Sequence[Request]) -> str:
    """A markdown table: component and kind of key, and requests by method."""
    found = Counter((*place(one), method(one)) for one in log)
    methods = sorted({what[2] for what in found})
    rows: list[list[object]] = []
    for component in sorted({what[0] for what in found}):
        kinds = sorted({what[1] for what in found if what[0] == component})
        rows += [[component, kind, *_cells(found, methods, component, kind)] for kind in kinds]
        if len(kinds) > 1:
            rows.append([f"**{component}**", "all", *_cells(found, methods, component)])
    rows.append(["**everything**", "all", *_cells(found, methods)])
    return report.table(["component", "kind of key", *methods, "all"], rows)


def _cells(found: Counter[tuple[str, str, str]], methods: Sequence[str], *what: str) -> list[str]:
    """The numbers of requests by method, and of all, of a component or of a kind in it."""
    of = [
        sum(n for key, n in found.items() if key[: len(what)] == what and key[2] == one)
        for one in methods
    ]
    return [str(n or "") for n in [*of, sum(of)]]


def summary(log: Sequence[Request], latency: float = 0) -> str:
    """Requests, their bytes, for how long any was under way, and how many at once at most."""
    busy = busy_seconds(log)
    rounds = f" (≈ {busy / latency:.0f} rounds of {latency * 1000:.0f} ms)" if latency else ""
    return (
        f"{len(log)} requests, {sum(r.received for r in log) / 1e6:.1f} MB received,"
        f" {sum(r.sent for r in log) / 1e6:.1f} MB sent; one or more under way for {busy:.1f}"
        f" s{rounds}, at most {most_at_once(log)} at once"
    )


def lines(log: Sequence[Request]) -> str:
    """Every request in the order of its start.

    Moment, milliseconds, status, method, SDK and its connection, bytes received, key.
    """
    if not log:
        return ""
    first = min(one.started for one in log)
    return "".join(
        f"{one.started - first:9.3f} {(one.ended - one.started) * 1000:7.1f} ms {one.status:3d}"
        f" {method(one):12} {one.agent[:12]:12} {one.connection:3d} {one.received:9d} {one.key}\n"
        for one in sorted(log, key=lambda request: request.started)
    )


def main() -> None:
    """Parse the arguments, run the command, and print where its requests went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="added to each")
    parser.add_argument("--log", type=Path, help="a file for every request")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    command = [part for n, part in enumerate(arguments.command) if n or part != "--"]
    server = os.environ.get("AWS_ENDPOINT_URL")
    if not server or not command:
        parser.error("give a COMMAND, and run this inside of `stedi local --`")
    with S3Proxy(server, latency=arguments.latency / 1000) as proxy:
        code = subprocess.call(command, env={**os.environ, "AWS_ENDPOINT_URL": proxy.endpoint})
        log = list(proxy.log)
    print(f"\n{counts(log)}\n\n{summary(log, arguments.latency / 1000)}", flush=True)
    if arguments.log:
        arguments.log.write_text(lines(log), encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
