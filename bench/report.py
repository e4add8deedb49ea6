"""What a benchmark says: markdown with machine and date, and its place in a page."""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("stedi_assets", "dagster", "pysail", "pyspark", "deltalake", "duckdb")


def where_and_when() -> str:
    """Date, machine and versions, in one line."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()} {_processor()},"
        f" {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    )


def _processor() -> str:
    """The processor's model where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def update(page: Path, section: str, text: str) -> None:
    """Put text between a page's `<!-- SECTION -->` and `<!-- end of SECTION -->`."""
    start, end = markers(section)
    whole = page.read_text(encoding="utf-8")
    before, found, rest = whole.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page} has no place for this: {start} and {end}")
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def markers(section: str) -> tuple[str, str]:
    """The comments between which a section of a page stands."""
    return f"<!-- {section} -->", f"<!-- end of {section} -->"


def publish(text: str, section: str, out: Path | None, page: Path | None) -> None:
    """Print a benchmark's text, and write it to a file and into a page where there are any."""
    print(text, flush=True)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    if page:
        update(page, section, text)
