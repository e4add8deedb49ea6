"""A person's day in the Dagster UI: look at the training set, backfill, see data land and break.

Each test leaves the site as it found it: wholly green.
"""

import json
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from stedi_assets.settings import today
from stedi_assets_tests.ui.conftest import PATIENCE, Site
from stedi_assets_tests.waiting import until

expect.set_options(timeout=PATIENCE * 500)
DAYS = [today() - timedelta(n) for n in (2, 1, 0)]


def open_asset(page: Page, name: str, tab: str = "Overview") -> None:
    """As a person finds it: Catalog, then its name."""
    page.get_by_role("link", name="Catalog").click()
    page.get_by_role("link", name=name).first.click()
    page.get_by_role("tab", name=tab).click()


def launch(page: Page, button: str, partitions: str) -> None:
    """Fill the dialog of a materialize button."""
    page.get_by_role("button", name=button).first.click()
    dialog = page.get_by_role("dialog")
    field = dialog.locator("input[type=text]").first
    field.fill(partitions)
    field.press("Enter")
    dialog.get_by_role("button", name="Launch").last.click()
    expect(dialog).to_have_count(0)


def new_runs(site: Site, before: list[str]) -> list[dict]:
    return [run for run in site.runs() if run["runId"] not in before]


def ids(site: Site) -> list[str]:
    """The runs so far, once there is nothing left to run: whatever is new then is the test's."""
    until(site.is_settled, PATIENCE)
    return [run["runId"] for run in site.runs()]


def test_the_training_set_says_what_it_is_and_shows_a_picture(page: Page) -> None:
    open_asset(page, "machine_learning_curated")
    expect(page.get_by_text("The training set")).to_be_visible()
    expect(page.get_by_text("Who may read it.")).to_be_visible()
    expect(page.get_by_text("whole cm")).to_be_visible()
    expect(page.get_by_text("table_size_mb")).to_be_visible()
    expect(page.get_by_text("Passing").first).to_be_visible()  # freshness
    page.get_by_role("row", name="picture").get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").get_by_role("img", name="pairs by ingest date")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 500


def test_every_partition_and_check_is_green(page: Page, site: Site) -> None:
    until(site.is_quiet, PATIENCE)
    for name in ("customer_landing", "accelerometer_trusted", "machine_learning_curated"):
        open_asset(page, name, "Partitions")
        expect(page.get_by_text("Materialized (3)")).to_be_visible()
        expect(page.get_by_text("Missing (0)")).to_be_visible()
        page.get_by_role("tab", name="Checks").click()
        expect(page.get_by_text("Succeeded").first).to_be_visible()
        assert page.get_by_text("Failed", exact=True).count() == 0


def test_a_backfill_is_one_run_of_the_chosen_dates(page: Page, site: Site) -> None:
    before = ids(site)
    page.get_by_role("link", name="Lineage").click()
    launch(page, "Materialize all", f"[{DAYS[0]}...{DAYS[2]}]")
    until(lambda: new_runs(site, before), PATIENCE)
    until(site.is_quiet, PATIENCE)
    [run] = new_runs(site, before)
    assert run["status"] == "SUCCESS"
    assert run["tags"]["dagster/asset_partition_range_start"] == str(DAYS[0])
    assert run["tags"]["dagster/asset_partition_range_end"] == str(DAYS[2])
    page.goto(f"{site.url}/runs/{run['runId']}")
    expect(page.get_by_text("Success").first).to_be_visible()
    open_asset(page, "machine_learning_curated", "Partitions")
    page.get_by_text(str(DAYS[1])).first.click()
    expect(page.get_by_text("dagster/partition_row_count")).to_be_visible()


def test_what_lands_is_run_by_the_sensor(page: Page, site: Site) -> None:
    before = ids(site)
    path = f"landing/accelerometer/ingest_date={DAYS[2]}/late.json"
    reading = {"user": "nobody@example.com", "timestamp": 1655564444000, "x": 1, "y": 0, "z": 0}
    site.store().put(path, json.dumps(reading).encode())
    try:
        until(lambda: new_runs(site, before), PATIENCE)
        until(site.is_quiet, PATIENCE)
        run = new_runs(site, before)[-1]
        assert run["status"] == "SUCCESS"
        assert run["tags"]["dagster/sensor_name"] == "landing_sensor"
        page.get_by_role("link", name="Runs").first.click()
        expect(page.get_by_text("landing_sensor").first).to_be_visible()
        open_asset(page, "accelerometer_objects", "Events")
        expect(page.get_by_text(str(DAYS[2])).first).to_be_visible()
    finally:
        before = ids(site)
        site.store().delete([path])
        until(lambda: new_runs(site, before), PATIENCE)
        until(site.is_quiet, PATIENCE)


def test_a_broken_file_is_a_failed_run_with_a_message_and_an_alert(page: Page, site: Site) -> None:
    before = ids(site)
    store = site.store()
    folder = f"trusted/step_trainer_trusted/ingest_date={DAYS[2]}/"
    # Files of older versions of the table stay for a while, so all that there are.
    files = {one["Key"]: store.get(one["Key"]) for one in store.objects(folder)}
    assert files
    for key in files:
        store.put(key, b"broken" * 100)
    try:
        open_asset(page, "machine_learning_curated")
        launch(page, "Materialize", str(DAYS[2]))
        until(lambda: new_runs(site, before), PATIENCE)
        until(site.is_quiet, PATIENCE)
        run = new_runs(site, before)[-1]
        assert run["status"] == "FAILURE"
        page.goto(f"{site.url}/runs/{run['runId']}")
        expect(page.get_by_text("StediError").first).to_be_visible()
        until(lambda: [a for a in site.alerts if run["runId"] in a["message"]], PATIENCE)
        [alert] = [a for a in site.alerts if run["runId"] in a["message"]]
        assert "a run failed" in alert["title"]
    finally:
        for key, found in files.items():
            store.put(key, found[0] if found else b"")
    before = ids(site)
    open_asset(page, "machine_learning_curated")
    launch(page, "Materialize", str(DAYS[2]))
    until(lambda: new_runs(site, before), PATIENCE)
    until(site.is_quiet, PATIENCE)
    assert new_runs(site, before)[0]["status"] == "SUCCESS"


@pytest.mark.parametrize("name", ["customer_objects", "step_trainer_objects"])
def test_a_page_of_landed_objects_shows_a_record_and_how_to_land(page: Page, name: str) -> None:
    open_asset(page, name)
    expect(page.get_by_text("stedi land").first).to_be_visible()
    expect(page.get_by_text("serialNumber").first).to_be_visible()
