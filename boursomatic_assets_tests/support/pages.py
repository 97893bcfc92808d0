"""HTML pages read back strictly, and texts that try to become markup."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;\'"'
# Without blanks, which become underscores in an id.
HOSTILE_TEXTS = (
    "<script>alert(1)</script>", "</script><svg/onload=alert(1)>", '"onmouseover="alert(1)', "'onclick='alert(1)",
    "a&amp;b&lt;c", "<!--<script>", "</style></title>", "{{7*7}}{%raw%}",
)  # fmt: skip
VOID = {"meta", "link", "br", "hr", "img", "input"}
RAW = re.compile(r"<(script|style)[^>]*>.*?</\1>", re.DOTALL)
Node = tuple[str, dict[str, str | None]]


class StrictParser(HTMLParser):
    """Every element that is opened is closed, in turn; no attribute comes twice; no id comes twice."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.nodes: list[Node] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.nodes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> outside a drawing"
        self.nodes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))


def parsed(page: str) -> StrictParser:
    parser = StrictParser()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    ids = [attributes["id"] for _, attributes in parser.nodes if "id" in attributes]
    assert len(ids) == len(set(ids))
    return parser


def words_of(page: str) -> str:
    """What is to be read, without scripts and styles."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", RAW.sub("", page))).split())


def structure(page: str) -> list[tuple[str, list[str]]]:
    """Every element with the names of its attributes."""
    return [(tag, list(attributes)) for tag, attributes in parsed(page).nodes]


def occurrences(page: str, text: str) -> int:
    """Texts and attributes that hold a text."""
    found = parsed(page)
    values = [value for _, attributes in found.nodes for value in attributes.values()]
    texts = [said for tag, said in found.texts if tag not in {"script", "style"}]
    return sum(text.lower() in str(value).lower() for value in (*values, *texts))
