"""Forms of the texts of environment variables: each function reads one, and raises ValueError if it is another."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from urllib.parse import urlsplit


def folder(text: str) -> Path:
    """An absolute path."""
    return Path(text).expanduser().absolute()


def home(text: str) -> Path:
    """An absolute path; RuntimeError if Dagster could not find its configuration below it."""
    path = folder(text)
    if set(str(path)) & set("*?["):
        message = "Dagster takes *, ? and [ in a path for a pattern"
        raise RuntimeError(message)
    return path


def folders(text: str) -> tuple[Path, ...]:
    """Absolute paths, separated as in PATH."""
    return tuple(map(folder, filter(None, text.split(os.pathsep))))


def place(text: str) -> str:
    """An absolute path, or a URL as it is."""
    return text if "://" in text else str(folder(text))


def share(text: str) -> float:
    """A fraction from 0 to 1."""
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError
    return value


def count(text: str) -> int:
    """A whole number from 0."""
    if not (text.isascii() and text.isdecimal()):
        raise ValueError
    return int(text)


def switch(text: str) -> bool:
    """1 or 0."""
    if text not in {"0", "1"}:
        raise ValueError
    return text == "1"


def on_or_off(text: str) -> bool:
    """On or off."""
    if text not in {"on", "off"}:
        raise ValueError
    return text == "on"


def rate(text: str) -> float:
    """A number above 0."""
    rate = float(text)
    if not 0.0 < rate < math.inf:
        raise ValueError
    return rate


def address(text: str) -> str:
    """A web address without a slash at its end."""
    if not text.startswith(("http://", "https://")):
        raise ValueError
    return text.rstrip("/")


def web_address(text: str) -> str:
    """A plain web address with a host."""
    url = urlsplit(text)
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if not (is_plain and url.scheme in {"http", "https"} and url.hostname):
        raise ValueError
    return text


def gateway(text: str) -> str:
    """A plain web address without parameters, and without a slash at its end."""
    url = urlsplit(web_address(text))
    if url.port == 0 or url.query or url.fragment:
        raise ValueError
    return text.rstrip("/")


def smtp_address(text: str) -> str:
    """Address of a mail server."""
    url = urlsplit(text)
    if url.port == 0 or url.scheme not in {"smtp", "smtps"} or not url.hostname:
        raise ValueError
    return text


def listed(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def hosts(text: str) -> tuple[str, ...]:
    """Host names separated by commas, without ports and patterns."""
    names = without_blanks(text)
    if not all(re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+", name) for name in names):
        raise ValueError
    return names


def password(text: str) -> str:
    """A text that is not blank."""
    if not text.strip():
        raise ValueError
    return text


def without_blanks(text: str) -> tuple[str, ...]:
    """Names separated by commas, without blanks."""
    return listed(text.replace(" ", ""))
