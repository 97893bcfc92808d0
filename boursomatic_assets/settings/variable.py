"""One environment variable: how its text is read, refused, and shown without its secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeAlias, TypeVar
from urllib.parse import urlsplit

from boursomatic_assets.errors import ConfigurationError

T = TypeVar("T")
Values: TypeAlias = Mapping[str, str]

HIDDEN = "***"


class Secret(Enum):
    """Which part of a value is secret."""

    NONE = ""
    PASSWORD = "The password in it is secret."  # noqa: S105 (a sentence of the documentation)
    PLACE = "User, password and path in it are secret."
    WHOLE = "Secret."


@dataclass(frozen=True)
class Variable(Generic[T]):
    """An environment variable. One set to nothing counts as not set.

    `form` says how the text is written, with the unit; error messages repeat it. `parse` raises ValueError on any
    other text; the message of a RuntimeError is repeated. `default` is the text in force if the variable is not
    set, perhaps made from other variables; empty means none. `default_note` describes it in words. Error messages
    show `example`.
    """

    name: str
    meaning: str
    form: str
    parse: Callable[[str], T]
    default: str | Callable[[Values], str] = ""
    default_note: str = ""
    example: str = ""
    secret: Secret = Secret.NONE

    @property
    def shown_default(self) -> str:
        """The default for people; empty if there is none."""
        return self.default_note or (self.default if isinstance(self.default, str) else "")

    def is_set(self, values: Values) -> bool:
        """Whether the environment holds a text for it."""
        return bool(values.get(self.name))

    def text(self, values: Values) -> str:
        """The text in force; empty if not set and without a default."""
        default = self.default if isinstance(self.default, str) else self.default(values)
        return values.get(self.name) or default

    def read(self, values: Values) -> T:
        """The value in force.

        Raises
        ------
        ConfigurationError
            If the text has another form. A secret is not repeated.
        """
        text = self.text(values)
        try:
            return self.parse(text)
        except (ValueError, RuntimeError) as error:
            raise ConfigurationError(self._refusal(text, error)) from None

    def find(self, values: Values) -> T | None:
        """The value in force, or None; raises like `read`."""
        return self.read(values) if self.text(values) else None

    def shown(self, values: Values) -> str | float | list[str] | None:
        """The value in force with hidden secrets, or None; raises like `read`."""
        value = self.find(values)
        if isinstance(value, bool):
            return self.text(values)
        if value is None or isinstance(value, (int, float)):
            return value
        if self.secret is Secret.WHOLE:
            return HIDDEN
        if isinstance(value, tuple):
            return list(map(str, value))
        shown = without_password(str(value), is_address=self.secret is not Secret.NONE)
        if self.secret is Secret.PLACE and shown != HIDDEN:
            url = urlsplit(shown)
            return f"{url.scheme}://{url.netloc.rpartition('@')[2]}" + (f"/{HIDDEN}" if url.path.strip("/") else "")
        return shown

    def _refusal(self, text: str, error: Exception) -> str:
        expected = f"{self.name} must be {self.form}"
        if self.secret is not Secret.NONE:
            return f"{expected}. The value is not repeated here: it may hold a secret"
        reason = f": {error}" if isinstance(error, RuntimeError) else ""
        example = f". Example: {self.name}={self.example}" if self.example else ""
        return f"{expected}; found {without_password(text)!r}{reason}{example}"


def without_password(text: str, *, is_address: bool = False) -> str:
    """Hide the secret parts of an address: its password, and everything after its path.

    An address that is not parsed with certainty is hidden whole: an unescaped `@` or `/` may belong to a password.
    A text without `://` is returned unchanged, unless it should be an address.

    Examples
    --------
    >>> without_password("postgresql://reader:hush@db.example:5432/prices?sslpassword=hush")
    'postgresql://reader:***@db.example:5432/prices?***'
    >>> without_password("postgresql://reader:hu/sh@db.example/prices")
    '***'
    """
    if "://" not in text:
        return HIDDEN if is_address else text
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return HIDDEN
    user, mark, host = url.netloc.rpartition("@")
    if text.count("@") != len(mark):
        return HIDDEN
    name, colon, _ = user.partition(":")
    login = (f"{name}:{HIDDEN}@" if colon else f"{HIDDEN}@") if mark else ""
    rest = f"?{HIDDEN}" if url.query or url.fragment else ""
    return f"{url.scheme}://{login}{host}{url.path}{rest}"
