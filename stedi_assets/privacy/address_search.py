"""One address in raw text: as a whole token of the grammar of addresses, however it is escaped.

What belongs here: text and addresses. What does not: records and people (`whose_record.py`).
"""

import re
import unicodedata
from enum import IntEnum
from urllib.parse import unquote

from stedi_assets.errors import StediError
from stedi_assets.tables.rules import normalize_email
from stedi_assets.tables.schemas import ENTITIES

# Text escaped more often than this is searched as far as it was decoded.
MAX_DECODINGS = 8
# Text with one of these may hold a name that does not stand in it letter by letter.
ESCAPES = ("\\", "%", "\0")
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# Of URL-encoded forms; where an address is encoded (`%40`), these are not part of it.
_FORM_DELIMITERS = re.compile(r'[&=?#;\s"<>]+')
# What RFC 5322 allows in an atom besides letters and digits. After some of these a producer may as
# well have begun an address (`user=ann@…`, `|ann@…`); within a word the others join its parts.
_JOINING = frozenset(".-_+")
_AMBIGUOUS = frozenset("!#$%&*/=?^{|}~")
_QUOTES = frozenset("'`")
# A number that stands as the value of another field is not the number of a device.
_OTHER_FIELDS = "|".join(
    sorted({c.name.lower() for e in ENTITIES.values() for c in e.fields} - {"serialnumber"})
)
_OF_OTHER_FIELD = re.compile(rf"""\b(?:{_OTHER_FIELDS})["']?\s*[:=]\s*["']?$""")


class Match(IntEnum):
    """Whether an address stands in a text; MAYBE where its token may belong to a longer one."""

    NO = 0
    MAYBE = 1
    YES = 2


def one_address(typed: str) -> str:
    """The email that somebody typed, normalized; StediError where it is not one address.

    A byte-order mark before it, which some shells put into a pipe, is dropped.
    """
    email = normalize_email(typed.removeprefix("\ufeff"))
    local, _, domain = email.rpartition("@")
    quoted = re.fullmatch(r'"(?:[^"\\]|\\.)+"', local)
    outside = domain if quoted else email
    is_one = local and domain and not re.search(r'[\s,;<>"]', outside)
    if not is_one or any(unicodedata.category(c) == "Cc" for c in email):
        raise StediError("That is not one email address: give it as name@domain, alone on a line.")
    return email


def folded(text: str) -> str:
    """Text in the one case and normal form in which names are looked for."""
    lower = text.lower()
    if not lower.isascii():
        lower = unicodedata.normalize("NFC", lower)
    return lower.replace("ς", "σ")  # which of the two it is depends on what stands around it


def search(text: str, *names: str) -> Match:
    """Whether any of some names (an email, numbers of devices) is a token of a text.

    YES where it is one once all escaping is undone. MAYBE where it is one at another level of
    escaping only, where the grammar takes it for part of a longer address but a producer may
    not have meant that (`user=ann@example.com`), or where the text is UTF-16 without a mark.
    """
    wanted = [folded(name) for name in names]
    *before, last = _decodings(text)
    match = _in(folded(last), wanted)
    if match is Match.YES:
        return match
    for view in (*before, last):
        if "%40" in view:
            pieces = (unquote(value) for value in _FORM_DELIMITERS.split(view) if "%40" in value)
            if any(_in(folded(piece), wanted) is Match.YES for piece in pieces):
                return Match.YES
    if match is Match.NO and any(_in(folded(view), wanted) for view in before):
        return Match.MAYBE
    if match is Match.NO and "\0" in text and _in_wide_text(text, wanted):
        return Match.MAYBE
    return match


def key_holds(key: str, email: str) -> bool:
    """Whether the key of an object holds an address: there a domain may go on, as in `.json`."""
    view, name = folded(unquote(key)), folded(email)
    at = view.find(name)
    while at >= 0:
        before, after = view[at - 1 : at], view[at + len(name) :][:1]
        if not (_is_word(before) or before in _JOINING or _is_word(after) or after == "-"):
            return True
        at = view.find(name, at + 1)
    return False


def without_address(key: str, email: str) -> str:
    """A key, or a message that names one, with `(address)` where it holds an address."""
    plain = re.sub(re.escape(email), "(address)", key, flags=re.IGNORECASE)
    segments = plain.split("/")
    return "/".join("(address)" if key_holds(segment, email) else segment for segment in segments)


def _decodings(text: str) -> list[str]:
    """A text as it came, then with the escapes of JSON and of URLs undone, level by level."""
    views = [text]
    while len(views) <= MAX_DECODINGS:
        decoded = unquote(_without_escapes(views[-1]))
        if decoded == views[-1]:
            break
        views.append(decoded)
    return views


def _without_escapes(text: str) -> str:
    if "\\" not in text:
        return text

    def meant(escape: re.Match[str]) -> str:
        if escape[1]:
            return chr(int(escape[1], 16))
        return _ESCAPED.get(escape[2], escape[2])

    plain = _ESCAPE.sub(meant, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _in(view: str, names: list[str]) -> Match:
    """The best match of any name in a folded text."""
    best = Match.NO
    for name in names:
        at = view.find(name)
        while at >= 0 and best is not Match.YES:
            best = max(best, _token(view, at, at + len(name), "@" in name))
            at = view.find(name, at + 1)
    return best


def _token(view: str, start: int, end: int, is_address: bool) -> Match:
    """Whether what stands from start to end of a text is a whole token of it."""
    before, after = view[start - 1 : start], view[end : end + 2]
    if not is_address and _OF_OTHER_FIELD.search(view[max(0, start - 60) : start]):
        return Match.NO
    if _is_word(before) or before in _JOINING or _goes_on(after):
        return Match.NO
    if before in _QUOTES:
        if _is_word(view[start - 2 : start - 1]):
            return Match.NO  # an apostrophe within a word
        return Match.YES if after[:1] == before else Match.MAYBE
    if before == "@" or after[:1] in ("@", "_") or (is_address and before in _AMBIGUOUS):
        return Match.MAYBE
    return Match.YES


def _is_word(character: str) -> bool:
    """Whether a character (or none) is a letter, a digit, or what else an address takes."""
    if character == "" or character.isascii():
        return character.isalnum()
    return unicodedata.category(character)[0] in "LMNS"


def _goes_on(after: str) -> bool:
    """Whether a domain goes on in the two characters that follow."""
    if after[:1] in (".", "-"):
        return _is_word(after[1:])
    return _is_word(after[:1])


def _in_wide_text(text: str, names: list[str]) -> bool:
    """Whether UTF-16 or UTF-32 that passes for UTF-8 with NULs holds a name.

    Where a line was cut out of it, its first character may be cut as well.
    """
    content = text.encode("utf-8", "replace")
    for encoding, width in (("utf-16", 2), ("utf-32", 4)):
        for endian in ("le", "be"):
            for offset in range(width):
                wide = content[offset:].decode(f"{encoding}-{endian}", "replace")
                if any(name in folded(wide) for name in names):
                    return True
    return False
