"""Source as text: without its prose, and cut into its top-level statements."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each alternative begins with a literal: the search then skips at once to the next quote or number sign.
_STRING_OR_COMMENT = re.compile(
    r"\"\"\"[^\"\\]*(?:(?:\\.|\"(?!\"\"))[^\"\\]*)*\"\"\"|'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''"
    r"|\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'|#[^\n]*",
    re.DOTALL,
)
# First character of a statement. A line such as `.format(` continues a string of several lines.
STATEMENT = re.compile(r"[\w@\"']")
NAMED = re.compile(r"^(?:async )?(?:def|class) (\w+)", re.MULTILINE)


class Code(NamedTuple):
    """Source without prose; its strings are cut out and kept in order."""

    code: str
    strings: tuple[str, ...]


def without_prose(source: str) -> Code:
    """Cut comments, docstrings, blank lines and trailing blanks out of a source.

    A docstring is a string in triple quotes alone on its lines, at the start of the source or after a colon.
    """
    strings: list[str] = []
    kept: list[str] = []
    source += "\n"
    place, before = 0, ":"
    for found in _STRING_OR_COMMENT.finditer(source):
        code, text = source[place : found.start()], found[0]
        place = found.end()
        triple = text[:3] in {'"""', "'''"}
        behind = source[place : source.find("\n", place)].lstrip()[:1]
        if triple and _is_docstring(code, before) and behind in {"", "#"}:
            kept.append(code.rstrip("rRuU"))
            continue
        kept.append(code)
        before = code.rstrip()[-1:] or before
        if text[0] != "#":
            strings.append(text)
            kept.append('""')
            before = '"'
    kept.append(source[place:])
    lines = map(str.rstrip, "".join(kept).split("\n"))
    return Code("".join(f"{line}\n" for line in lines if line), tuple(strings))


def _is_docstring(code: str, before: str) -> bool:
    """Whether a string after this code is alone on its line, after a colon; `before` ends the earlier code."""
    earlier, _, line = code.rpartition("\n")
    return not line.strip(" \trRuU") and (earlier.rstrip()[-1:] or before) == ":"


def statements_of(source: str) -> list[str]:
    """Cut a source into its top-level statements with their decorators; faster than parsing it."""
    # Lines keep their numbers, and no string holds one that looks like code.
    code = _STRING_OR_COMMENT.sub(lambda found: '""' * (found[0][0] != "#") + "\n" * found[0].count("\n"), source)
    starts = [number for number, line in enumerate(code.split("\n")) if STATEMENT.match(line)]
    lines = source.splitlines(keepends=True)
    texts = ["".join(lines[first:last]) for first, last in pairwise([*starts, len(lines)])]
    whole: list[str] = []
    for text in texts:
        if whole and whole[-1].startswith("@") and not NAMED.search(whole[-1]):
            whole[-1] += text
        else:
            whole.append(text)
    return whole


def assigned_names(text: str) -> list[str]:
    """Names that a statement assigns."""
    if "=" not in text:
        return []
    (statement,) = ast.parse(text).body
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return [node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)]


def nodes_within(parts: Sequence[ast.AST]) -> list[ast.AST]:
    """Every node of some pieces: `ast.walk` in half its time."""
    found, waiting = [], list(parts)
    while waiting:
        node = waiting.pop()
        found.append(node)
        for value in vars(node).values():
            if isinstance(value, list):
                waiting += [each for each in value if isinstance(each, ast.AST)]
            elif isinstance(value, ast.AST):
                waiting.append(value)
    return found
