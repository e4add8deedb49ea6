"""One address in raw text: as a whole token of the grammar of addresses, however it is escaped.

What belongs here: text and addresses. What does not: records and people (`whose_record.py`).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from itertools import chain

from stedi_assets.errors import StediError
from stedi_assets.escapes import decodings, plain, without_entities
from stedi_assets.tables.rules import normalize_email
from stedi_assets.tables.schemas import ENTITIES

# Of URL-encoded forms; where an address is encoded (`%40`), these are not part of it.
_FORM_DELIMITERS = re.compile(r"[&=?#;\s]+")
# What RFC 5322 allows in an atom besides letters and digits. After some of these a producer may as
# well have begun an address (`user=ann@…`, `|ann@…`); within a word the others join its parts.
_JOINING = frozenset(".-_+")
_AMBIGUOUS = frozenset("!#$%&*/=?^{|}~")
_QUOTES = frozenset("'`")
# Quotes, backslashes and signs beyond ASCII between a word and what follows, and no space.
_WITHIN_A_WORD = re.compile(r"""[\w.-](?:["'`\\\x1f]|[^\x00-\x7f\s\w])+$""")
# White space within an identity, as it stands in a text whose escapes are undone.
_AS_ESCAPED = dict.fromkeys(map(ord, "\b\f\n\r\t"), "\x1f")
_PYTHON_QUOTE = re.compile(r"(?<!\w)[bfru]{1,2}'$")
# A number that stands as the value of another field is not the number of a device.
_OTHER_FIELDS = "|".join(
    sorted({c.name.lower() for e in ENTITIES.values() for c in e.fields} - {"serialnumber"})
)
_OF_OTHER_FIELD = re.compile(rf"""\b(?:{_OTHER_FIELDS})["']?\s*[:=]\s*["']?$""", re.IGNORECASE)


class Match(IntEnum):
    """Whether an address stands in a text; MAYBE where its token may belong to a longer one."""

    NO = 0
    MAYBE = 1
    YES = 2


def identity(typed: str) -> str:
    """The email that somebody typed, normalized as the tables do; StediError where it is none.

    Whatever the contract takes for an email may be somebody's: `Ann <ann@…>`, or no `@` at all.
    """
    email = normalize_email(typed)
    if not email:
        raise StediError("Give the email on standard input.")
    return email


@lru_cache
def is_address(email: str) -> bool:
    """Whether an identity is one email address, so that raw text can be searched for it."""
    local, _, domain = email.rpartition("@")
    quoted = re.fullmatch(r'"(?:[^"\\]|\\.)+"', local)
    outside = domain if quoted else email
    is_one = local and domain and not re.search(r'[\s,;<>"]', outside)
    ends = {unicodedata.category(sign) for sign in (email[:1] + email[-1:])}
    return bool(is_one) and "Cf" not in ends and not any(map(_is_control, email))


def folded(text: str) -> str:
    """Text in the one case and normal form in which names are looked for."""
    lower = text.lower()
    if not lower.isascii():
        lower = unicodedata.normalize("NFC", lower)
    return lower.replace("ς", "σ")  # which of the two it is depends on what stands around it


def search(text: str, email: str, devices: Iterable[str] = ()) -> Match:
    """Whether an email, or the number of a device, is a token of a text.

    YES where it is one once all escaping is undone. MAYBE where it is one at another level of
    escaping only, or in other forms of its characters (`ann＠example.com`), where the grammar takes
    it for part of a longer address but a producer may not have meant that (`user=ann@example.com`),
    or where the text is UTF-16 without a mark.

    What is no address is YES only as the whole value of a field `email` or `user`: no grammar
    says where it begins. Elsewhere it is at most MAYBE, and NO without an `@`: any word may be it.
    """
    name, numbers = folded(email), list(devices)
    *before, last = decodings(text)
    match = _in(last, name, numbers)
    if match is Match.YES or _in_form([*before, last], name, numbers):
        return Match.YES
    if match is Match.NO and any(_in(view, name, numbers) for view in before):
        return Match.MAYBE
    if match is Match.NO and "\0" in last and _in_wide_text(last, name, numbers):
        return Match.MAYBE
    if match is Match.NO and not last.isascii() and "@" in name:
        spelled = _in(folded(plain(last)), folded(plain(name)), [])
        return min(spelled, Match.MAYBE)
    return match


def key_holds(key: str, email: str) -> bool:
    """Whether the key of an object, however it is escaped, holds an address.

    Only letters and digits go on in a name there: it is shown to nobody, and nothing is deleted.
    An identity without an `@` may be any word of a key.
    """
    return "@" in email and _key_names(key, email)


def _key_names(key: str, email: str) -> bool:
    views = decodings(key)
    return any(_bounded(folded(email)).search(folded(view)) for view in views) or bool(
        _bounded(folded(plain(email))).search(folded(plain(views[-1])))
    )


def without_address(key: str, email: str) -> str:
    """A key, or a message that names one, with `(address)` where it holds an address."""
    plain = re.sub(_bounded(email), "(address)", key)
    words = re.split(r"([/\s]+)", plain)
    shown = "".join("(address)" if _key_names(word, email) else word for word in words)
    return "(address)" if _key_names(shown, email) else shown


def _bounded(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)


def _in_form(views: list[str], name: str, numbers: list[str]) -> bool:
    """Whether an encoded value of a URL's form is, or holds, a name for certain."""
    for view in views:
        if "%40" in view:
            for piece in _FORM_DELIMITERS.split(without_entities(view)):
                if "%40" in piece and _in(decodings(piece)[-1], name, numbers) is Match.YES:
                    return True
    return False


def _in(view: str, name: str, numbers: list[str]) -> Match:
    """The best match in a text of a folded email, or of a number exactly as it is."""
    best = Match.NO
    tokens = (_tokens(view, number, False) for number in numbers)
    for match in chain(_identities(folded(view), name), *tokens):
        if match is Match.YES:  # a long line may hold a million of them
            return match
        best = max(best, match)
    return best


def _identities(view: str, name: str) -> Iterator[Match]:
    """Of each place in a folded text where an identity stands, what it is there."""
    if is_address(name):
        yield from _tokens(view, name, True)
        return
    value = re.escape(name.translate(_AS_ESCAPED))
    if re.search(rf"""(["'])(?:email|user)\1\s*:\s*(["'])[ \t\x1f]*{value}[ \t\x1f]*\2""", view):
        yield Match.YES
    if "@" in name:
        yield from (min(match, Match.MAYBE) for match in _tokens(view, name, True))


def _tokens(view: str, name: str, is_address: bool) -> Iterator[Match]:
    """Of each place in a text where a name stands, whether it is a whole token there."""
    at = view.find(name)
    while at >= 0:
        end = at + len(name)
        before, after = view[max(0, at - 60) : at], view[end : end + 2]
        yield min(_begins(before, after, is_address), _ends(after))
        at = view.find(name, at + 1)


def _begins(before: str, after: str, is_address: bool) -> Match:
    """Whether a token begins between what stands before and a name."""
    last = before[-1:]
    if _is_word(last) or (not is_address and _OF_OTHER_FIELD.search(before)):
        return Match.NO
    if last in _JOINING:  # a form's `+` is a space
        joins = not is_address or (last != "+" and _is_word(before[-2:-1]))
        return Match.NO if joins else Match.MAYBE
    within = _WITHIN_A_WORD.search(before) is not None
    if last in _QUOTES:
        if after[:1] == last:
            return Match.MAYBE if within else Match.YES
        is_apostrophe = _is_word(before[-2:-1]) and not _PYTHON_QUOTE.search(before)
        return Match.NO if is_apostrophe else Match.MAYBE
    unsure = within or last in ("@", "\\") or _is_symbol(last)
    return Match.MAYBE if unsure or (is_address and last in _AMBIGUOUS) else Match.YES


def _ends(after: str) -> Match:
    """Whether a token ends between a name and the two characters that follow."""
    first, goes_on = after[:1], _is_word(after[1:])
    if _is_word(first) or (first in (".", "-") and goes_on):
        return Match.NO
    beyond_ascii = not first.isascii() and not first.isspace()
    unsure = first in ("@", "_") or _is_symbol(first) or (beyond_ascii and goes_on)
    return Match.MAYBE if unsure else Match.YES


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _is_word(character: str) -> bool:
    """Whether a character (or none) is a letter or a digit of any script."""
    return character.isalnum()


def _is_symbol(character: str) -> bool:
    """Whether a character (or none) beyond ASCII is a sign or a mark, such as an emoji."""
    return not character.isascii() and unicodedata.category(character)[0] in "MS"


def _in_wide_text(text: str, name: str, numbers: list[str]) -> bool:
    """Whether UTF-16 or UTF-32 that passes for UTF-8 with NULs holds a name.

    Where a line was cut out of it, its first character may be cut as well.
    """
    emails = [name] if "@" in name else []  # else it may be any word
    for content in (text.encode("utf-8", "replace"), text.encode("latin-1", "replace")):
        for encoding, width in (("utf-16", 2), ("utf-32", 4)):
            for endian in ("le", "be"):
                for offset in range(width):
                    wide = content[offset:].decode(f"{encoding}-{endian}", "replace")
                    named = any(email in folded(wide) for email in emails)
                    if named or any(number in wide for number in numbers):
                        return True
    return False
