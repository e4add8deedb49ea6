"""The pictures of docs/athena.md anew: its queries' results on the embedded engine, as SVG.

`make query-pictures`; over a synthetic sample, in a lake of its own.
"""

import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
STEDI = str(Path(sys.executable).with_name("stedi"))
WIDTH = 78
# Without the fonts that rich would fetch from elsewhere.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def stedi(*arguments: str) -> str:
    """What a command prints; ends the program where it fails."""
    return subprocess.run([STEDI, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def picture(title: str, rows: list[dict[str, object]]) -> str:
    """A query's result as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    table = Table()
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(
            *(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values())
        )
    console.print(table)
    return console.export_svg(title=title, code_format=FORMAT, unique_id="stedi")


def main() -> None:
    """Fill a lake, run each query of the page, write each result beside this file."""
    page = (HERE.parent / "athena.md").read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    titles = re.findall(r"!\[(.*?)\]\(pictures/athena-\d+\.svg\)", page)
    with tempfile.TemporaryDirectory() as sample:
        stedi("sample", sample, "--first-date", "2022-06-18")
        stedi("land", sample)
        stedi("catch-up")
    for number, (sql, title) in enumerate(zip(queries, titles, strict=True), 1):
        rows = json.loads(stedi("query", sql, "--format", "json"))
        svg = picture(title, rows)
        (HERE / f"athena-{number}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
