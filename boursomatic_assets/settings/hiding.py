"""Secrets kept out of texts: which they are, and how they may be written there."""

from __future__ import annotations

import html
import re
from base64 import b64encode, urlsafe_b64encode
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from boursomatic_assets.settings.variable import HIDDEN, Secret
from boursomatic_assets.settings.variables import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boursomatic_assets.settings.variable import Values

_CREDENTIALS = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
# The encoding of a shorter secret is a word of other texts.
_SHORTEST_ENCODED = 6
# A shorter value of a parameter is hidden with its whole address.
_SHORTEST_VALUE = 4
# Parameters of a database's address that hold no secret.
HARMLESS = {"application_name", "connect_timeout", "dbname", "host", "port", "sslmode", "user"}


def hide(text: str, secrets: Iterable[str]) -> str:
    """Remove secrets from a text, however they are written, and the password from every address in it."""
    # Longest first: one secret may contain another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = _spellings(secret).sub(HIDDEN, text)
    return _CREDENTIALS.sub(rf"\1:{HIDDEN}@", text)


def secrets_of(values: Values) -> tuple[str, ...]:
    """Every secret of the environment, also as it is written within an address."""
    found: set[str] = set()
    for variable in VARIABLES:
        text = values.get(variable.name, "")
        if variable.secret is Secret.WHOLE:
            found.add(text)
        if variable.secret is not Secret.NONE:
            found |= address_secrets(text, is_place_secret=variable.secret is not Secret.PASSWORD)
    return tuple(sorted(found - {""}))


def address_secrets(text: str, *, is_place_secret: bool) -> set[str]:
    """Secret parts of an address: its password and parameters, and its user and path if its place is secret."""
    try:
        url = urlsplit(text)
    except ValueError:
        return set()
    if not url.netloc:
        return set()
    given = {value for name, value in parse_qsl(url.query) if name not in HARMLESS}
    parts = {url.password or "", *(value for value in given if len(value) >= _SHORTEST_VALUE)}
    if url.username and url.password:
        # As in the header of a basic authentication.
        parts.add(f"{unquote(url.username)}:{unquote(url.password)}")
    if is_place_secret:
        # A server that refuses a request may repeat its path.
        path = url.path.rstrip("/")
        parts |= {path, f"{path}?{url.query}" if url.query else ""}
        # A user without a password is a token; another one may be a word of other texts.
        parts |= {url.username or ""} if not url.password else set()
    return (parts | set(map(unquote, parts))) - {""}


@lru_cache(maxsize=256)
def _spellings(secret: str) -> re.Pattern[str]:
    """The secret, each of its signs as it is or escaped for an address, JSON or HTML; and in base 64."""
    plain = "".join(sign if sign.isascii() and sign.isalnum() else _escapes(sign) for sign in secret)
    return re.compile("|".join([plain, *map(re.escape, sorted(_in_base64(secret.encode(errors="surrogatepass"))))]))


def _escapes(sign: str) -> str:
    """Pattern of the ways to write a sign: in an address also twice escaped, and a blank as +."""
    units = sign.encode("utf-16-be", "surrogatepass").hex()
    in_json = "".join(rf"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
    in_address = "".join(f"%(?:25)*{byte:02x}" for byte in sign.encode(errors="surrogatepass"))
    names = {html.escape(sign)[1:-1], f"#{ord(sign)}", f"#x{ord(sign):x}"} - {""}
    in_html = rf"&(?:{'|'.join(map(re.escape, sorted(names)))});"
    written = [rf"\\?{re.escape(sign)}", in_json, in_address, in_html, *([r"\+"] if sign == " " else [])]
    return f"(?i:{'|'.join(written)})"


def _in_base64(secret: bytes) -> set[str]:
    """The signs that do not depend on what is before and after it, for each offset."""
    if len(secret) < _SHORTEST_ENCODED:
        return set()
    found = set()
    for offset in range(3):
        # Four signs stand for three bytes; the first and the last may hold bits of a neighbour.
        first, last = -(-offset * 4 // 3), (offset + len(secret)) * 8 // 6
        encoded = (encode(b"\0" * offset + secret) for encode in (b64encode, urlsafe_b64encode))
        found |= {each.decode()[first:last] for each in encoded}
    return found
