"""The exact parser on text that comes in pieces, line ends and limits included."""

import random

import pytest

from stedi_assets.landing.record_parser import MAX_DEPTH, TooLongError, pieces_of, pieces_of_text
from stedi_assets_tests import reference
from stedi_assets_tests.odd_data import ODD_LINES, fuzzed_text

MOST = 1 << 20


def pieces(text: str, size: int, most: int = MOST) -> list[tuple[str, bool]]:
    """Raw text of every piece of a text that comes in chunks of a size; whether it is an object."""
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    return [(raw, parsed is not None) for raw, parsed in pieces_of_text(chunks, most)]


def by_reference(text: str) -> list[tuple[str, bool]]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(raw, found is not None) for line in lines for found, raw in reference.pieces(line)]


@pytest.mark.parametrize("size", [1, 2, 5, 100, 10_000])
@pytest.mark.parametrize("entity", list(ODD_LINES))
def test_pieces_do_not_depend_on_how_the_text_comes(entity, size):
    for separator in ("\n", "\r\n", "\r", " \n\n\t"):
        text = separator.join(ODD_LINES[entity])
        assert pieces(text, size) == by_reference(text)


def test_random_texts_have_the_pieces_of_the_reference():
    rng = random.Random(0)
    for _ in range(100):
        text = fuzzed_text(rng, rng.choice(list(ODD_LINES)))
        for size in (1, 3, 64, 1 << 20):
            assert pieces(text, size) == by_reference(text)


@pytest.mark.parametrize(
    ("line", "raws"),
    [
        ('{"a":1},{"a":2}', ['{"a":1}', '{"a":2}']),
        ('{"a":1} ,\t{"a":2} , ', ['{"a":1}', '{"a":2}']),
        ('{"a":1},,{"a":2}', ['{"a":1}', ',,{"a":2}']),
        ('{"a":1},x', ['{"a":1}', ",x"]),
        ('{"a":1},{"a":', ['{"a":1}', ',{"a":']),
        (',{"a":1}', [',{"a":1}']),
        (",", [","]),
    ],
)
def test_a_lone_comma_after_an_object_is_a_separator(line, raws):
    assert [raw for raw, _ in pieces_of(line)] == raws


def test_an_object_that_nests_deeper_than_the_limit_is_malformed():
    deep, deeper = ('{"a":' * levels + "1" + "}" * levels for levels in (MAX_DEPTH, MAX_DEPTH + 1))
    text_in_it = '{"a":"' + "{[" * 2000 + '\\""}'
    assert pieces(f"{deep}{text_in_it}\n{deeper}", 1000) == [
        (deep, True),
        (text_in_it, True),
        (deeper, False),
    ]


@pytest.mark.parametrize("text", ["x" * 101, '{"a":"' + "é" * 50 + '"}', '{"a":1}' + "," * 102])
def test_a_record_longer_than_the_limit_is_refused_and_one_of_it_is_not(text):
    for size in (1, 1000):
        with pytest.raises(TooLongError, match="longer than 100 bytes"):
            pieces(text, size, 100)
        assert pieces(text, size, 200) == by_reference(text)


def test_white_space_of_any_length_is_no_record():
    assert pieces(" \t" * 1000 + '{"a":1}' + " " * 1000, 10, 100) == [('{"a":1}', True)]
