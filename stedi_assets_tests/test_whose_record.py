"""Whose a landed record is: whole addresses, in parsed fields or as whole tokens of raw text."""

import html
import json
import unicodedata
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stedi_assets.privacy.address_search import Match, identity, key_holds, search
from stedi_assets.privacy.whose_record import Person, redact
from stedi_assets.tables.schemas import ENTITIES
from stedi_assets_tests.test_emails import ODD

ANN = Person("ann@example.com", frozenset({"d1"}), "", frozenset())
# Others, whose addresses hold Ann's, or part of it.
SIMILAR = [
    "o'ann@example.com",
    "müllerann@example.com",
    "жann@example.com",
    "smith&ann@example.com",
    "srs0=x=ann@example.com",
    "'ann@example.com",
    "x%ann@example.com",
    "x|ann@example.com",
    "{ann@example.com",
    "x!ann@example.com",
    "jo.ann@example.com",
    "jo-ann@example.com",
    "jo+ann@example.com",
    "jo_ann@example.com",
    "joann@example.com",
    "jo ann@example.com",
    '"jo ann"@example.com',
    "b@ann@example.com",
    "ann@example.com@example.org",
    "ann@example.co",
    "ann@example.comé",
    "ann@example.com.au",
    "ann@example.com-x",
    "ann@example.community",
    "ann@sub.example.com",
    "ann@xample.com",
    "nann@example.com",
]


def reading(user: str, **fields: object) -> str:
    record = {"user": user, "timestamp": 1, "x": 1.0, "y": 2.0, "z": 3.0} | fields
    return json.dumps(record, ensure_ascii=False)


@pytest.mark.parametrize("other", SIMILAR)
@pytest.mark.parametrize("escaped", [False, True])
def test_a_well_formed_record_of_a_similar_address_stays_as_it_is(other, escaped):
    line = reading(other)
    line = line if not escaped else line.replace("@", "\\u0040")
    redaction = redact(f"{reading('ann@example.com')}\n{line}\n", ENTITIES["accelerometer"], ANN)
    assert redaction.taken == 1
    assert redaction.text == f"{line}\n"
    assert redaction.uncertain == (other == "jo ann@example.com")


@pytest.mark.parametrize("other", [one for one in SIMILAR if not one.startswith("jo ")])
def test_malformed_text_of_a_similar_address_is_never_taken(other):
    line = reading(other)[:-2]
    for text in (line, line.replace("@", "\\u0040"), quote(line), json.dumps(line), quote(other)):
        redaction = redact(f"{text}\n", ENTITIES["accelerometer"], ANN)
        assert (redaction.taken, redaction.text) == (0, f"{text}\n")


@pytest.mark.parametrize("other", SIMILAR)
def test_who_is_forgotten_with_a_similar_address_takes_nothing_of_ann(other):
    them = Person(other, frozenset(), "", frozenset())
    for text in (reading("ann@example.com"), reading("ann@example.com")[:-2]):
        assert redact(f"{text}\n", ENTITIES["accelerometer"], them).taken == 0
    assert redact(f"{reading(other)}\n", ENTITIES["accelerometer"], them).taken == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"email": "ANN@example.com", ',
        "ann@example.com",
        r'{"email":"ann\u0040example.com',
        r'{"email":"\tann@example\u002Ecom."',
        r"{\"email\":\"\\nann@example.com\"",
        "%7B%22user%22:%22ann@example.com%22,%22timestamp%22:1%7D",
        "%257B%2522user%2522%253A%2522ann%2540example.com%2522",
        "user=ann%40example.com&timestamp=1",
        "{'user': 'ann@example.com'}",
        "Ann <ann@example.com>; 7",
        "mailto:ann@example.com.",
        "7;ann@example.com;8",
        "ann@example.com\0\0",
        "“ann@example.com”",
        "\u00a0ann@example.com\u00a0",
        "İ before and after ann@example.com İ",
        "{&quot;user&quot;: &#34;ann&#64;example.com&#34;",
        "&lt;ann@example.com&gt;",
        "%7B%22user%22%3A+%22ann%40example.com%22%2C",
        r"{\x22user\x22: \x22\x61nn\x40example.com\x22",
        "%u0061nn@example.com",
        "<td>ann&#64example.com</td>",
        r"{\042user\042: \042\141nn\100example.com\042",
    ],
)
def test_malformed_text_with_the_address_as_a_token_is_the_persons(text):
    assert search(text, "ann@example.com") is Match.YES


@pytest.mark.parametrize(
    ("email", "text"),
    [
        ("i̇pek@example.com", "user: İPEK@example.com"),
        ("o'brien@example.com", "{'user': \"O'Brien@example.com\""),
        ("müller@exämple.com", unicodedata.normalize("NFD", "<MÜLLER@exämple.com>")),
        ("müller@exämple.com", "%22m%C3%BCller%40ex%C3%A4mple.com%22"),
        ("😀@example.com", r"\ud83d\ude00@example.com"),
        ("𠮷野@example.jp", ascii({"user": "𠮷野@example.jp"})[:-1]),
        ("müller@example.com", r"user: m\303\274ller\100example.com"),
        ("ας@example.com", "'ΑΣ@example.com'"),
        ("smith&sons@example.com", "<smith&sons@example.com>"),
    ],
)
def test_an_address_is_found_in_any_case_form_and_escaping(email, text):
    assert search(text, email) is Match.YES


@pytest.mark.parametrize(
    "text",
    [
        "user=ann@example.com",  # RFC 5322: an atom may hold =
        "7|ann@example.com|8",
        "{ann@example.com}",
        "/ann@example.com/",
        "{'user': 'ann@example.com",
        "{u'user': u'ann@example.com', ",
        "{'user': b'ann@example.com', ",
        "(u'ann@example.com",
        quote_plus("see ann@example.com now"),
        "_ann@example.com_",
        "-ann@example.com",
        ".ann@example.com",
        "📧ann@example.com",
        "✉️ann@example.com✉️",
        "ann@example.com📧",
        "%FFann@example.com",
        json.dumps(reading("ann@example.com").encode("utf-16-le").decode())[1:-1],
        repr(reading("ann@example.com").encode("utf-16-le"))[2:-1],
        quote(reading("ann@example.com").encode("utf-16-be")),
        reading("ann@example.com").encode("utf-16-le").decode(),
        reading("ann@example.com").encode("utf-16-be").decode(),
        reading("ann@example.com").encode("utf-32-le").decode(),
        ("\n" + reading("ann@example.com")).encode("utf-16-le").decode()[1:],
    ],
)
def test_text_in_which_the_address_may_stand_is_named_and_not_taken(text):
    assert search(text, "ann@example.com") is Match.MAYBE


def test_an_address_beyond_latin_is_found_in_utf16_without_a_mark():
    text = reading("жж@пример.рф").encode("utf-16-le").decode()
    assert search(text, "жж@пример.рф") is Match.MAYBE


def test_an_address_beyond_ascii_is_found_in_pythons_bytes():
    assert search(repr("user: müller@example.com".encode()), "müller@example.com") is Match.YES
    wide = repr("user: müller@example.com".encode("utf-16-le"))[2:-1]
    assert search(wide, "müller@example.com") is Match.MAYBE


@pytest.mark.parametrize("between", ['"', '""', "\\", "'", "’", "”", "‐", "‑", "–", "·", "\u200b"])
@pytest.mark.parametrize("other", ["jo{}ann@example.com", "jo.{}ann@example.com"])
@pytest.mark.parametrize("end", ["", "{}"])
def test_malformed_text_is_not_taken_where_a_word_goes_on_into_the_address(between, other, end):
    other = (other + end).format(*[between] * 2)
    line = reading(other)[:-2]
    texts = [other, line, json.dumps(line), repr(line), html.escape(line), html.escape(other)]
    texts += [html.escape(json.dumps(line)), line.replace("@", "%40"), f'{{"user": "{other}", "']
    for text in [*texts, *map(quote, texts), *map(quote_plus, texts)]:
        assert search(text, "ann@example.com") is not Match.YES


@pytest.mark.parametrize(
    "other",
    [
        "o&quot;ann@example.com",
        "o&#39;ann@example.com",
        "o&#x27;ann%40example.com",
        "o&rsquo;ann@example.com",
        "smith&amp;ann@example.com",
        "&#106;ann@example.com",
        "ann@example.com&#46;au",
        r"corp\nann@example.com",
        r"corp\054ann@example.com",
        r"corp\100ann@example.com",
        r"corp\7ann@example.com",
        r"corp\\\\nann@example.com",
        "ann@example.com‐x.org",
        "ann@example.com。au",
        "ann@example.com\u200bx",
    ],
)
def test_malformed_text_of_somebody_else_is_not_taken_for_an_escape_or_a_sign(other):
    for text in (other, f'{{"user": "{other}", "', quote(other), quote_plus(json.dumps(other))):
        assert search(text, "ann@example.com") is not Match.YES


def test_the_number_of_a_device_is_compared_exactly_as_the_tables_do():
    step = '{"serialNumber": "Dev-É1", "distanceFromObject": '
    assert search(step, "ann@example.com", ["Dev-É1"]) is Match.YES
    assert search(step, "ann@example.com", ["dev-é1"]) is Match.NO
    assert search(step, "ann@example.com", ["DEV-É1", "É1"]) is Match.NO
    assert search('{"SENSORREADINGTIME": 7, ', "ann@example.com", ["7"]) is Match.NO
    assert search('{"distance": -7, ', "ann@example.com", ["7"]) is Match.NO


def test_the_devices_number_is_found_in_malformed_text_but_not_as_another_fields_value():
    seven = Person("ann@example.com", frozenset({"7"}), "", frozenset())
    step = ENTITIES["step_trainer"]
    theirs = '{"serialNumber": "7", "distanceFromObject": 1'
    others = '{"serialNumber": "8", "distanceFromObject": 7'
    assert redact(f"{theirs}\n{others}\n", step, seven).text == f"{others}\n"


def test_a_record_of_somebody_else_that_gives_the_address_stays_without_it():
    other = reading("bob@example.com", note="see ANN@example.com", deep=[{"a": "ann@example.com"}])
    redaction = redact(f"{other}\n", ENTITIES["accelerometer"], ANN)
    assert (redaction.taken, redaction.mentions) == (0, 1)
    kept = json.loads(redaction.text)
    assert kept["user"] == "bob@example.com"
    assert kept["x"] == 1.0
    assert "ann" not in redaction.text.lower()


def test_a_record_that_gives_its_field_of_whom_twice_keeps_the_last_only():
    other = reading("ann@example.com").replace('"timestamp"', '"user": "b@c.com", "timestamp"')
    redaction = redact(f"{other}\n", ENTITIES["accelerometer"], ANN)
    assert (redaction.taken, redaction.mentions) == (0, 1)
    assert json.loads(redaction.text)["user"] == "b@c.com"


SPELLED_OTHERWISE = [
    "an\u200bn@example.com",
    "ann＠example.com",
    "ａｎｎ@EXAMPLE.com",
    "ann\u00ad@example.com",
    r"ann\uff20example.com",
]


@pytest.mark.parametrize("spelled", SPELLED_OTHERWISE)
def test_text_that_spells_the_address_in_other_characters_is_named_and_stays(spelled):
    malformed = f'{{"user": "{spelled}", '
    of_others = reading("bob@example.com", note=f"see {spelled}")
    for text in (malformed, of_others):
        redaction = redact(f"{text}\n", ENTITIES["accelerometer"], ANN)
        assert (redaction.changed, redaction.uncertain) == (False, True)
        assert redaction.text == f"{text}\n"
    assert key_holds(f"landing/customer/{spelled}.json", ANN.email)
    assert search(f"é{spelled}", "nn@example.com") is Match.NO


def test_a_record_whose_own_address_holds_it_is_named_and_stays():
    other = reading("Ann <ann@example.com>")
    redaction = redact(f"{other}\n", ENTITIES["accelerometer"], ANN)
    assert (redaction.taken, redaction.text, redaction.uncertain) == (0, f"{other}\n", True)


@pytest.mark.parametrize("entity", ["customer", "accelerometer"])
@pytest.mark.parametrize(
    "own",
    [
        "ann%40example.com",
        "ann%2540EXAMPLE.com",
        "ann&#64;example.com",
        r"ann\u0040example.com",
        "mailto:ann@example.com",
        "smtp:ann@example.com",
        "'ann@example.com'",
        "“ann@example.com”",
        "(ann@example.com)",
        "ann@example.com.",
        "ann@example.com,bob@example.com",
        "ann＠example.com",
        "ａｎｎ@example.com",
        "ann%EF%BC%A0example.com",
        "a\u00adnn\u200b@example.com",
        *(f"{sign}ann@example.com" for sign in "\u00a0\u3000\u200b\ufeff\u00ad"),
        *(f"ann@example.com{sign}" for sign in "\u00a0\u3000\u200b\ufeff\u00ad"),
    ],
)
def test_a_record_whose_own_address_is_the_persons_spelled_otherwise_is_named_and_stays(
    own, entity
):
    """Is it the same person? The tables say no; somebody has to look."""
    record = {"email": own, "serialNumber": "d2", "registrationDate": 1, "lastUpdateDate": 1}
    for escaped in (True, False):
        line = json.dumps(record, ensure_ascii=escaped) if entity == "customer" else reading(own)
        redaction = redact(f"{line}\n", ENTITIES[entity], ANN)
        assert (redaction.taken, redaction.mentions, redaction.uncertain) == (0, 0, True)
        assert redaction.text == f"{line}\n"


def test_text_without_the_person_comes_back_byte_for_byte():
    text = "\ufeff \r\n{}\rnull\n\n%41 \\u0041"
    assert redact(text, ENTITIES["customer"], ANN).text == text


@given(st.text(st.sampled_from("anx@.e'=%2\\ \"{}é,<") | st.characters(), max_size=30))
def test_no_text_breaks_the_search(text):
    search(text, "ann@example.com")
    redact(text, ENTITIES["customer"], ANN)


@pytest.mark.parametrize("odd", ODD)
def test_of_an_identity_that_is_no_address_exact_fields_are_taken_and_no_text_of_others(odd):
    them = Person(identity(odd), frozenset(), "", frozenset())
    note = f"{odd} and see {odd} or a, ann, {{}}, ann@example.com; a@b.com,c@d.com"
    others = [
        reading("ann@example.com"),
        reading("bob@example.com", ann="a", a=odd, email=odd, note=note),
        reading("ann@example.com")[:-2],
        "a ann 'a' {} a@example.com b@example.com;ann@example.com; 7 ann@ \u00a0 @example.com",
        "From: Ann Smith <ann@example.com>; a = a, \u00a0ann@example.com",
        reading("bob@example.com", ann=note)[:-2],
        json.dumps({"user": f"{odd} x", "timestamp": f"x {odd}"})[:-1],
    ]
    theirs = [reading(odd), reading(f" {odd.upper()}\t"), json.dumps(json.loads(reading(odd)))]
    text = "".join(f"{line}\n" for line in [*theirs, *others])
    redaction = redact(text, ENTITIES["accelerometer"], them)
    assert (redaction.taken, redaction.mentions) == (3, 0)
    assert redaction.text == "".join(f"{line}\n" for line in others)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("form", ["{}", '{{"user": {}, "x": 1', "{{'timestamp': 1, 'EMAIL' :{},"])
def test_malformed_text_whose_field_of_whom_is_exactly_such_an_identity_goes(odd, form):
    them = Person(identity(odd), frozenset(), "", frozenset())
    line = form.format(json.dumps(odd)) if form != "{}" else reading(odd)[:-2]
    redaction = redact(f"{line}\n", ENTITIES["accelerometer"], them)
    assert (redaction.taken, redaction.text) == (1, "")
