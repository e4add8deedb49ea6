"""Answers as people and machines read them."""

import json
from datetime import date

import pyarrow as pa
import pytest

from stedi_assets.cli import output
from stedi_assets.errors import StediError

ANSWER = pa.table(
    {
        "n": pa.array([9007199254740993, None], pa.int64()),
        "x": pa.array([0.1, float("nan")]),
        "day": pa.array([date(2022, 6, 18), None]),
        "parts": pa.array([[1, 2], None], pa.list_(pa.int64())),
        "ok": pa.array([True, None]),
    }
)


@pytest.fixture
def printed(capsys):
    """What an answer is written as, in a form."""

    def run(answer: pa.Table, form: str) -> str:
        output.print_answer(answer, form)
        return capsys.readouterr().out

    return run


def test_integers_beside_nulls_stay_integers(printed):
    assert printed(ANSWER, "csv").splitlines() == [
        "n,x,day,parts,ok",
        '9007199254740993,0.1,2022-06-18,"[1, 2]",true',
        ",,,,",
    ]
    rows = json.loads(printed(ANSWER, "json"))
    assert rows[0] == {
        "n": 9007199254740993,
        "x": 0.1,
        "day": "2022-06-18",
        "parts": [1, 2],
        "ok": True,
    }
    assert rows[1] == dict.fromkeys(rows[0])
    table = printed(ANSWER, "table")
    assert "9007199254740993" in table
    assert "null" in table
    assert table.splitlines()[-1] == "(2 rows)"


def test_an_empty_answer_says_so(printed):
    empty = ANSWER.slice(0, 0)
    assert printed(empty, "table").splitlines()[-1] == "(0 rows)"
    assert printed(empty, "csv") == "n,x,day,parts,ok\n"
    assert json.loads(printed(empty, "json")) == []


def test_rows_too_wide_for_a_terminal_are_blocks_with_a_line_a_column(printed, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(output, "_console", lambda: Console(width=40, markup=False, emoji=False))
    wide = pa.table({f"column_{n}": [f"[red]value {n} :smile:"] for n in range(5)})
    lines = printed(wide, "table").splitlines()
    assert lines[0] == "row 1"
    assert lines[3] == "  column_2  [red]value 2 :smile:"


def test_text_of_the_data_is_printed_as_it_is(printed):
    assert "[bold]a[/bold] :smile:" in printed(pa.table({"a": ["[bold]a[/bold] :smile:"]}), "table")


def test_control_characters_of_the_data_do_not_reach_the_terminal(printed):
    assert r"a\x1b[2Jb\nc é" in printed(pa.table({"a": ["a\x1b[2Jb\nc é"]}), "table")


def test_a_table_for_people_ends_after_a_thousand_rows_and_says_what_is_left_out(printed):
    lines = printed(pa.table({"n": range(1_200)}), "table").splitlines()
    assert len(lines) < 1_010
    assert lines[-2:] == [
        "(1,200 rows)",
        "200 more are not shown: add LIMIT, or take --format csv or json.",
    ]


FORMS = pytest.mark.parametrize("form", ["table", "csv", "json"])


@FORMS
@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**62], pa.timestamp("us")),
        pa.array([2**60], pa.timestamp("us", "UTC")),
        pa.array([2**31 - 1], pa.date32()),
        pa.array([[2**31 - 1]], pa.list_(pa.date32())),
    ],
    ids=str,
)
def test_a_date_beyond_the_year_9999_is_a_line_that_names_the_column(printed, form, values):
    answer = pa.table({"n": [1], "far": values})
    with pytest.raises(StediError, match=r"column far .* CAST\(far AS STRING\)"):
        printed(answer, form)


@FORMS
def test_names_that_json_holds_once_are_refused_there(printed, form):
    twice = pa.table([pa.array([1]), pa.array([2])], names=["n", "n"])
    if form == "json":
        with pytest.raises(StediError, match=r"Several columns are called n: .*\(AS\)"):
            printed(twice, form)
    else:
        assert "n" in printed(twice, form)


@FORMS
def test_a_struct_with_two_fields_of_one_name_is_a_line(printed, form):
    struct = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(StediError, match="column s "):
        printed(pa.table({"s": struct}), form)
