"""Makes the pictures of the docs anew: `make pictures`; needs Chromium.

A synthetic sample is landed in a lake of its own, the tables are filled, and pages of `dagster dev`
over it are photographed.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from stedi_assets.defs.materialize import dagster_command
from stedi_assets.settings import today

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SECONDS = 600
WIDTH = 1500
_ZONES = ",".join(f"global@global:{zone}" for zone in ("landing", "trusted", "curated"))


@dataclass(frozen=True)
class Picture:
    """A page of the UI: its path, a text that is there when it is ready, and its height.

    click: what is clicked then, by its text.
    """

    path: str
    text: str
    height: int
    click: str | None = None


PICTURES = {
    "lineage": Picture(f"/asset-groups?expanded={_ZONES}", "customers_curated", 800),
    "asset": Picture("/assets/machine_learning_curated", "table_size_mb", 1500),
    "picture": Picture(
        "/assets/machine_learning_curated", "table_size_mb", 900, click="[Show Markdown]"
    ),
    "customers": Picture(
        "/assets/customers_curated", "table_size_mb", 700, click="[Show Markdown]"
    ),
    "partitions": Picture(
        "/assets/machine_learning_curated?view=partitions", "Materialized (3)", 620
    ),
    "checks": Picture("/assets/accelerometer_trusted?view=checks", "Succeeded", 900),
    "run": Picture("/runs", "Success", 900, click="a run"),
    "automation": Picture("/automation", "landing_sensor", 560),
}


@contextmanager
def running(*command: str | Path) -> Iterator[None]:
    """A program in the background, ended with all that it started."""
    process = subprocess.Popen(
        [str(part) for part in command],
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


def until(what: str, ready: Callable[[], bool]) -> None:
    """Wait until `ready` is true; ends the program where it never is."""
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"make pictures: {what} did not come up within {SECONDS} s.")
        time.sleep(0.5)


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


def fill(folder: Path) -> None:
    """Land a sample in the lake of this process's environment, and fill the tables.

    The last date twice, so that the customers' picture knows who has pairs.
    """
    shutil.copy(HERE.parents[1] / "dagster.local.yaml", folder / "dagster.yaml")
    for arguments in (
        ("sample", folder / "sample"),
        ("land", folder / "sample"),
        ("materialize",),
    ):
        subprocess.run([BIN / "stedi", *arguments], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(dagster_command(today(), today()), check=True)


def photograph(page: Page, url: str, picture: Picture, file: Path) -> None:
    """Open a page, wait until it is ready, and save what it shows."""
    page.set_viewport_size({"width": WIDTH, "height": picture.height})
    page.goto(url + picture.path)
    page.get_by_text(picture.text).first.wait_for()
    if picture.click == "a run":
        page.locator("a[href*='/runs/']").first.click()
        page.get_by_text("RUN_SUCCESS").first.wait_for()
    elif picture.click:
        page.get_by_text(picture.click).first.click()
    time.sleep(25)  # the UI's animations and late queries have no end that one could see
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        small = shot.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)  # keeps rare colours
        small.save(file, optimize=True)
    print(f"docs/pictures/{file.name}")


def main() -> None:
    """Take every picture; run inside `stedi local`, with DAGSTER_HOME in a new folder."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("make pictures: there is no chromium on the PATH: install it first.")
    fill(Path(os.environ["DAGSTER_HOME"]))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(BIN / "dagster", "dev", "-p", str(port)), sync_playwright() as playwright:
        until("dagster dev", lambda: answers(f"{url}/server_info"))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(SECONDS * 1000)
        for name, picture in PICTURES.items():
            photograph(page, url, picture, HERE / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
