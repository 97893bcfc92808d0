"""Secrets are found in a text however they are written."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boursomatic_assets.settings.hiding import hide, secrets_of
from boursomatic_assets.settings.variable import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "open+sesame/42&<?"


def test_hide_removes_secrets_and_passwords_in_addresses() -> None:
    said = "postgresql://me:hush@db/prices refused hush-hush; smtp://other:word@mail"
    assert hide(said, ["hush", "hush-hush", ""]) == (
        "postgresql://me:***@db/prices refused ***; smtp://other:***@mail"
    )


@given(st.text(st.characters(exclude_characters="*"), min_size=1), st.text(), st.text())
def test_hide_leaves_no_secret_in_any_text(secret: str, before: str, after: str) -> None:
    hidden = hide(f"{before}{secret}{after}", [secret])
    assert secret not in hidden.replace(HIDDEN, "*")


@pytest.mark.parametrize(
    "write",
    [
        lambda key: quote(key, safe=""),
        lambda key: quote(key, safe="").lower(),
        lambda key: quote(quote(key, safe=""), safe=""),
        lambda key: json.dumps(key)[1:-1].replace("/", r"\/"),
        lambda key: key.replace("&", r"\u0026").replace("<", r"\u003c").replace("+", r"\u002b"),
        html.escape,
    ],
)
def test_hide_finds_a_key_however_it_is_written(write: Callable[[str], str]) -> None:
    assert hide(f"key {write(KEY)}.", [KEY]) == "key ***."


@pytest.mark.parametrize("before", ["", "a", "ab", "abc:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_hide_finds_a_key_in_base_64(before: str, encode: Callable[[bytes], bytes]) -> None:
    start, end = encode(before.encode()).decode().rstrip("="), encode(b":after").decode()
    hidden = hide(encode(f"{before}{KEY}:after".encode()).decode(), [KEY])
    # A sign holds 6 bits: those between may belong to the key and to what is beside it.
    assert HIDDEN in hidden
    assert len(hidden) <= len(start) + len(HIDDEN) + len(end) + 4


def test_secrets_of_an_address_are_its_login_its_path_and_its_parameters() -> None:
    environment = {
        "BOURSOMATIC_GATEWAY": "https://me:hu%2Fsh@gate.example/t0/",
        "BOURSOMATIC_NOTICE_WEBHOOK": "https://hooks.example/n?t=1&u=%2F",
        "DATABASE_URL": "postgresql://me:pw@db.example/prices?host=h&sslpassword=ssl+key",
        "BOURSOMATIC_EODHD_KEY": "k",
    }
    assert set(secrets_of(environment)) == {
        "hu%2Fsh", "hu/sh", "me:hu/sh", "/t0",
        "https://hooks.example/n?t=1&u=%2F", "/n", "/n?t=1&u=%2F", "/n?t=1&u=/",
        "pw", "me:pw", "ssl key", "k",
    }  # fmt: skip
    assert hide("404: GET /t0/stooq.com", secrets_of(environment)).endswith("***/stooq.com")
