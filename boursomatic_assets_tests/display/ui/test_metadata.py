"""Texts of data in the UI's Markdown: shown as they are, and nothing else."""

from __future__ import annotations

import html
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from boursomatic_assets.display.ui.metadata import bullets, markdown_table

RENDERER = MarkdownIt("commonmark").enable("table")
HOSTILE = (
    "![x](http://127.0.0.1:3000/graphql?query=mutation)",
    "<img src=http://127.0.0.1:3000>",
    "[click](javascript:alert(1))",
    "<script>alert(1)</script>",
    "a | b \\| ![c](d)",
    "`code` &lt;b&gt; \\![x](y)",
    "![x][y]\n\n[y]: http://127.0.0.1:3000",
    "<http://127.0.0.1:3000>",
)


def cell(text: str) -> str:
    """What a person sees of a cell of a table."""
    page = RENDERER.render(markdown_table(pl.DataFrame({"name": ["first", text]})))
    found = re.findall(r"<td>(.*?)</td>", page, flags=re.DOTALL)
    assert len(found) == 2
    assert not re.search(r"<(?!/?(?:table|thead|tbody|tr|th|td)\b)", page), page
    return html.unescape(found[1])


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_table_shows_a_hostile_name_as_text(text: str) -> None:
    assert cell(text) == " ".join(text.split())


@given(st.text(st.sampled_from("![](){}<>|\\`&;:/\"'= \nab#"), max_size=30))
def test_markdown_table_shows_any_text_as_it_is(text: str) -> None:
    assert cell(f"x{text}x") == " ".join(f"x{text}x".split())


@pytest.mark.parametrize("text", HOSTILE)
def test_bullets_show_a_hostile_sentence_as_text(text: str) -> None:
    page = RENDERER.render(str(bullets([f"Symbol {text}"]).value))
    assert re.sub(r"\s", "", re.sub(r"</?(?:ul|li)>", "", page)) == re.sub(r"\s", "", html.escape(f"Symbol {text}"))
