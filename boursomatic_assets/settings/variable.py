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
    WHOLE = "Secret."


@dataclass(frozen=True)
class Variable(Generic[T]):
    """An environment variable. One that is set to nothing counts as not set.

    Attributes
    ----------
    name : str
    meaning : str
        What it sets, in sentences.
    form : str
        How its text is written, with the unit. The error message says that the text must be this.
    parse : callable
        Turns the text into the value. Raises ValueError if it cannot; the message of a RuntimeError is repeated.
    default : str or callable
        Text in force where the variable is not set, perhaps made from other variables. Empty: there is none.
    default_note : str
        The default in words, where `default` does not say it.
    example : str
        A text that the error message recommends.
    secret : Secret
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
        """Text in force; empty if the variable is not set and has no default."""
        default = self.default if isinstance(self.default, str) else self.default(values)
        return values.get(self.name) or default

    def read(self, values: Values) -> T:
        """Value in force.

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
        """Value in force, or None where there is none.

        Raises
        ------
        ConfigurationError
            As `read`.
        """
        return self.read(values) if self.text(values) else None

    def shown(self, values: Values) -> str | float | list[str] | None:
        """Value in force with its secrets hidden; None where there is none.

        Raises
        ------
        ConfigurationError
            As `read`.
        """
        value = self.find(values)
        if value is None or isinstance(value, (int, float)):
            return value
        if self.secret is Secret.WHOLE:
            return HIDDEN
        if isinstance(value, tuple):
            return list(map(str, value))
        return without_password(str(value), is_address=self.secret is Secret.PASSWORD)

    def _refusal(self, text: str, error: Exception) -> str:
        expected = f"{self.name} must be {self.form}"
        if self.secret is not Secret.NONE:
            return f"{expected}. The value is not repeated here: it may hold a secret"
        reason = f": {error}" if isinstance(error, RuntimeError) else ""
        example = f". Example: {self.name}={self.example}" if self.example else ""
        return f"{expected}; found {without_password(text)!r}{reason}{example}"


def without_password(text: str, *, is_address: bool = False) -> str:
    """Hide what may be secret in an address: its password, and what follows its path.

    An address that cannot be taken apart with certainty is hidden whole: an `@` or a `/` that is not escaped may
    belong to a password. A text without `://` is returned as it is, unless it should be an address.

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
