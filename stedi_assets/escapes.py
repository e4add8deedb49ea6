"""Undoes the escapes of JSON, JavaScript, Python, C, URLs and HTML, however often they were made.

What belongs here: text. What does not: what an address in it is (`privacy/address_search.py`).
"""

import html
import re
import unicodedata
from urllib.parse import unquote

# Text escaped more often than this is decoded that often.
MAX_DECODINGS = 8
# Text with one of these may hold a name that does not stand in it letter by letter.
ESCAPES = ("\\", "%", "&", "\0")
# Escapes of JSON, of JavaScript (`%u0061`, `\u{61}`), of Python's text (`\U0001f600`) and bytes
# (`\xc3\xbc`), and octal ones of C (`\303\274`).
_ESCAPE = re.compile(
    r"""(?:\\|%)u([0-9a-fA-F]{4})|\\U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})"""
    r"""|\\u\{0*(10[0-9a-fA-F]{4}|[0-9a-fA-F]{1,5})\}"""
    r"""|((?:\\x[0-9a-fA-F]{2})+)|((?:\\[0-3][0-7]{2})+)|\\(["\\/bfnrt])"""
)
# White space that was escaped: `x\nann@…` may as well be of the domain user `x\nann`.
_ESCAPED = dict.fromkeys("bfnrt", "\x1f")
# In the same way `x\054ann@…` may be of the domain user `x\054ann`.
_OCTAL_SIGNS = {n: "\x1f" for n in range(128) if not (chr(n).isalnum() or chr(n) in "@%._+-")}
# HTML's numbers need no semicolon, and may begin with any number of zeros.
_ENTITY = re.compile(
    r"&(?:#0*([0-9]{1,7});?|#[xX]0*([0-9a-fA-F]{1,6});?|[A-Za-z][A-Za-z0-9]{1,31};)"
)


def decodings(text: str) -> list[str]:
    """A text as it came, then with its escapes undone, level by level."""
    views = [text]
    while len(views) <= MAX_DECODINGS:
        decoded = unquote(without_entities(_without_escapes(views[-1])))
        if decoded == views[-1]:
            break
        views.append(decoded)
    return views


def plain(text: str) -> str:
    """A text without escapes, characters that are not seen, and other forms of one character."""
    seen = (sign for sign in decodings(text)[-1] if unicodedata.category(sign) != "Cf")
    return unicodedata.normalize("NFKC", "".join(seen))


def may_hold_address(text: str) -> bool:
    """Whether there is an `@` in a text, however it is escaped; True where that is not certain."""
    views = decodings(text)
    return len(views) > MAX_DECODINGS or "@" in unicodedata.normalize("NFKC", views[-1])


def without_entities(text: str) -> str:
    """A text with HTML's escapes undone, once."""
    return _ENTITY.sub(_character, text)


def _character(entity: re.Match[str]) -> str:
    """What an escape of HTML stands for; of a number without its zeros: Python takes not many."""
    decimal, in_hex = entity.groups()
    if decimal:
        return html.unescape(f"&#{decimal};")
    return html.unescape(f"&#x{in_hex};" if in_hex else entity[0])


def _without_escapes(text: str) -> str:
    if "\\" not in text and "%u" not in text:
        return text
    plain = _ESCAPE.sub(_meant, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _meant(escape: re.Match[str]) -> str:
    """What an escape stands for."""
    *points, in_hex, octal, other = escape.groups()
    if point := next(filter(None, points), None):
        return chr(int(point, 16))
    if in_hex:
        return _text_of(bytes.fromhex(in_hex.replace("\\x", "")))
    if octal:
        numbers = bytes(int(number, 8) for number in octal.split("\\")[1:])
        return _text_of(numbers).translate(_OCTAL_SIGNS)
    return _ESCAPED.get(other, other)


def _text_of(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")
