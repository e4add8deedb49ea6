"""The real Dagster UI with its daemon, over an embedded lake with sample data, and a browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from stedi_assets.lakehouse.object_store import ObjectStore, open_store
from stedi_assets.settings import load_settings
from stedi_assets_tests.waiting import free_port, until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PATIENCE = 300  # seconds: two cores may do much else
START_SECONDS = 900  # for filling the tables and starting the UI


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ui)


@dataclass
class Site:
    """A running UI."""

    url: str
    home: Path
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, query: str, **variables: Any) -> Any:
        """An answer of the UI's own GraphQL interface."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the newest first, their tags as a dict."""
        query = "{runsOrError{...on Runs{results{runId jobName status tags{key value}}}}}"
        runs: list[dict[str, Any]] = self.ask(query)["runsOrError"]["results"]
        for run in runs:
            run["tags"] = {tag["key"]: tag["value"] for tag in run["tags"]}
        return runs

    def is_quiet(self) -> bool:
        """Whether no run works or waits."""
        return all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in self.runs())

    def is_settled(self) -> bool:
        """Whether, moreover, the landing sensor found nothing left to run."""
        newest = next(iter(self.ticks("landing_sensor")), {})
        return self.is_quiet() and newest.get("skipReason") == "All tables are up to date."

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The newest ticks of a sensor that have ended, the newest first."""
        query = (
            "{workspaceOrError{...on Workspace{locationEntries{locationOrLoadError{"
            "...on RepositoryLocation{repositories{sensors{name sensorState{"
            "ticks(limit: 5){status skipReason}}}}}}}}}}"
        )
        [location] = self.ask(query)["workspaceOrError"]["locationEntries"]
        [repository] = location["locationOrLoadError"]["repositories"]
        [found] = (s for s in repository["sensors"] if s["name"] == sensor)
        return [t for t in found["sensorState"]["ticks"] if t["status"] != "STARTED"]

    def store(self) -> ObjectStore:
        """The lake of the site."""
        return open_store(load_settings({"STEDI_HOME": str(self.home)}))


@pytest.fixture(scope="session")
def inbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web server that takes alerts: its address for STEDI_ALERTS, and what arrived."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"json://127.0.0.1:{server.server_port}/", messages
        server.shutdown()


@pytest.fixture(scope="session")
def site(
    tmp_path_factory: pytest.TempPathFactory, inbox: tuple[str, list[dict[str, Any]]]
) -> Iterator[Site]:
    """`stedi land`, `stedi materialize` and `dagster dev` as a person's first two commands do."""
    home, port = tmp_path_factory.mktemp("site"), free_port()
    (home / "dagster").mkdir()
    shutil.copy(ROOT / "dagster.local.yaml", home / "dagster" / "dagster.yaml")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STEDI_")}
    environ |= {
        "STEDI_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "STEDI_ALERTS": inbox[0],
        "STEDI_QUIET_SECONDS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    steps = f"stedi land {home}/sample; stedi materialize; exec dagster dev -p {port}"
    sample = (BIN / "stedi", "sample", home / "sample", "--customers", "60")
    subprocess.run(sample, env=environ, check=True, capture_output=True)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "stedi", "local", "--", "sh", "-ec", steps],
            env=environ, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        site = Site(f"http://127.0.0.1:{port}", home, inbox[1])
        until(lambda: process.poll() is not None or _answers(site), START_SECONDS)
        assert process.poll() is None, (home / "log").read_text()[-3000:]
        until(lambda: site.ticks("alerts"), PATIENCE)
        yield site
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _answers(site: Site) -> bool:
    try:
        return bool(site.ask("{assetNodes{id}}")["assetNodes"])
    except OSError:
        return False


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    """A browser's page on the UI."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "there is no chromium on the PATH: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 1800})
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(site.url)
        yield page
        browser.close()
