"""Makes the pictures of the docs anew: `make pictures`; needs Chromium.

A synthetic sample is landed in a lake of its own, the tables are filled, and pages of `dagster dev`
over it are photographed. Chromium is driven by its DevTools protocol: no driver, no dependency.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SECONDS = 120
WIDTH, HEIGHT = 1500, 900
_ZONES = ",".join(f"global@global:{zone}" for zone in ("landing", "trusted", "curated"))
# Name of the picture -> the page, a text that is there when it is ready, and its height.
PAGES = {
    "lineage": (f"/asset-groups?expanded={_ZONES}", "customers_curated", HEIGHT),
    "asset": ("/assets/machine_learning_curated", "dagster/partition_row_count", 1050),
    "checks": ("/assets/accelerometer_trusted?view=checks", "readings_missing", HEIGHT),
    "automation": ("/automation", "landing_sensor", 420),
}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
)


def until(what: str, ready: Any) -> Any:
    """What `ready` returns as soon as that is true; ends the program where it never is."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.2)
    sys.exit(f"make pictures: {what} did not come up within {SECONDS} s.")


@contextmanager
def running(*command: str | Path, **environ: str) -> Iterator[None]:
    """A program in the background, ended with all that it started."""
    process = subprocess.Popen(
        [str(part) for part in command],
        env=os.environ | environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def tab_of(profile: Path) -> str:
    """The address of the first tab of the Chromium that runs with a profile."""
    port_file = profile / "DevToolsActivePort"
    until("Chromium", lambda: port_file.exists() and port_file.read_text().strip())
    port = port_file.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
        return next(t["webSocketDebuggerUrl"] for t in json.load(answer) if t["type"] == "page")


class Page:
    """A tab of Chromium, driven by its DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.sent = 0

    def ask(self, method: str, **arguments: Any) -> Any:
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": arguments}))
        while True:
            answer = json.loads(self.socket.recv(SECONDS))
            if answer.get("id") == self.sent:
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        return self.ask("Runtime.evaluate", expression=script)["result"].get("value")

    def open(self, url: str, text: str, height: int) -> None:
        """Open a page and wait until it shows a text, then for what moves and loads."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=WIDTH, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.ask("Page.navigate", url=url)
        shows = f"document.body && document.body.innerText.includes({json.dumps(text)})"
        until(f"{text!r} on {url}", lambda: self.evaluate(shows))
        time.sleep(8)  # the UI's animations and late queries have no end that one could see

    def photograph(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


def fill(folder: Path) -> None:
    """Land a sample in the lake of this process's environment, and fill the tables."""
    shutil.copy(HERE.parents[1] / "dagster.local.yaml", folder / "dagster.yaml")
    for arguments in (
        ("sample", folder / "sample", "--customers", "100"),
        ("land", folder / "sample"),
        ("materialize",),
        ("catch-up",),
    ):
        subprocess.run([BIN / "stedi", *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Take every picture of PAGES; run inside `stedi local`, with DAGSTER_HOME in a new folder."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("make pictures: there is no chromium on the PATH: install it first.")
    folder = Path(os.environ["DAGSTER_HOME"])
    fill(folder)
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(running(BIN / "dagster", "dev", "-p", str(port)))
        profile = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        stack.enter_context(running(chromium, *FLAGS, f"--user-data-dir={profile}"))
        home = f"http://127.0.0.1:{port}"
        until("dagster dev", lambda: answers(f"{home}/server_info"))
        page = Page(stack.enter_context(connect(tab_of(profile), max_size=None)))
        for name, (path, text, height) in PAGES.items():
            page.open(home + path, text, height)
            page.photograph(HERE / f"{name}.png")
            print(f"docs/pictures/{name}.png")


if __name__ == "__main__":
    main()
