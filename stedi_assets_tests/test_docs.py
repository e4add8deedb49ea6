"""The docs name every command, option, setting and verb there is, and none that there is not."""

import inspect
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stedi_assets import settings
from stedi_assets.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCS = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
VERBS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def commands(group: click.Group, before: str = "") -> dict[str, click.Command]:
    """The commands of a group and of the groups in it, by what is typed."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[before + name] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{before}{name} ")
    return found


COMMANDS = commands(main)
OPTIONS = [
    (name, option)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for option in parameter.opts
]


def code() -> list[str]:
    """What stands in the docs as code: spans and blocks."""
    return re.findall(r"```.*?```|`[^`]+`", DOCS, re.DOTALL)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_and_has_help(name):
    assert f"stedi {name}" in DOCS
    assert COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_with_an_example(name):
    help_text = CliRunner().invoke(main, [*name.split(), "--help"]).output
    example = help_text.rpartition("Example:\n")[2].strip().splitlines()
    assert example
    assert all(f"stedi {name}" in line for line in example)


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_is_documented_and_has_help(name, option):
    (parameter,) = (p for p in COMMANDS[name].params if option in p.opts)
    assert parameter.help
    assert any(f"stedi {name}" in span and option in span for span in code()) or (
        f"`{option}`" in DOCS
    )


def test_every_setting_is_documented_and_every_documented_one_is_read():
    read = set(re.findall(r"STEDI_[A-Z_]+[A-Z]", inspect.getsource(settings)))
    table = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(STEDI_[A-Z_]+)`", table, re.MULTILINE))
    assert documented == read - {"STEDI_EMBEDDED"}  # `stedi local` sets it for its command


def test_every_make_verb_is_documented_and_every_documented_one_exists():
    documented = set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(code())))
    assert documented <= VERBS
    assert all(f"`{verb}`" in DOCS or f"make {verb}" in DOCS for verb in VERBS)


def test_every_documented_command_exists():
    named = re.findall(r"(?:^|[`\n/ ])stedi ([a-z][a-z-]+)", "\n".join(code()))
    assert named
    assert set(named) <= set(main.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    relative = [link for link in links if "://" not in link]
    assert [link for link in relative if not (page.parent / link).exists()] == []


def test_no_picture_is_big():
    pictures = list((ROOT / "docs" / "pictures").glob("*.png"))
    assert pictures
    assert all(picture.stat().st_size < 200_000 for picture in pictures)
