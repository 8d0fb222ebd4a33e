"""Markdown of a table as HTML, without its figures: the page draws its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from certsmooth._internal.extras import optional_libraries
from certsmooth.analysis.runs import AS_PUBLISHED
from certsmooth.science.certificates import GUARANTEES

PROVENANCE = "Provenance"
_APPENDIX = re.compile(r"<h4>Appendix: (.*?)</h4>(.*?)(?=<h4>|\Z)", re.DOTALL)
_SCROLL = '<div class="scroll tall" role="region" tabindex="0" aria-label="Table">'
_LINK = re.compile(r"\[([^\]]*)\]\(#[^)]*\)")  # within the file: here are other headings
_ANY = "|".join(map(re.escape, (*GUARANTEES, AS_PUBLISHED)))
_PROMISE = re.compile(rf"(?P<start><td[^>]*>)(?P<promise>(?:{_ANY})(?:, (?:{_ANY}))*)</td>")
"""A cell that lists guarantees and nothing else."""


def html(markdown: str, *, without: Sequence[str] = ()) -> Markup:
    """Return HTML of the Markdown of a table; HTML within it is shown as text.

    Headings are two levels lower than in the file, whose first one, the title, and whose provenance are left out:
    the page has its own. An appendix is folded.

    Args:
        markdown: as a template of a table makes it.
        without: beginnings of the headings of further sections that are left out.

    Raises:
        MissingLibraryError: the library that reads Markdown is not installed.
    """
    with optional_libraries():
        from markdown_it import MarkdownIt
    parts = re.split(r"^(?=## )", markdown, flags=re.MULTILINE)
    kept = [part for part in parts if not part.startswith(tuple(f"## {each}" for each in (PROVENANCE, *without)))]
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
    lines = [line for line in "".join(kept).splitlines() if not line.startswith(("# ", "!["))]
    tokens = reader.parse(_LINK.sub(r"\1", "\n".join(lines)))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        elif token.type == "table_open":
            token.attrSet("class", "data")
    text = str(reader.renderer.render(tokens, reader.options, {}))
    text = text.replace(' style="text-align:right"', ' class="number"').replace(' style="text-align:left"', "")
    text = text.replace('<table class="data">', f"{_SCROLL}<table>").replace("</table>", "</table></div>")
    text = _APPENDIX.sub(r"<details><summary>Appendix: \1</summary>\2</details>", text)
    return Markup(_PROMISE.sub(_badges, text))


def provenance(markdown: str) -> Markup:
    """Return the provenance in the Markdown of a table as HTML."""
    _, found, rest = markdown.partition(f"\n## {PROVENANCE}")
    return html(f"Of certificates{rest}") if found else Markup()


def _badges(found: re.Match[str]) -> str:
    """Return the cell of guarantees as labels of their colours."""
    names = [(re.sub(r"[()]", "", each).replace(" ", "-"), each) for each in found["promise"].split(", ")]
    labels = " ".join(f'<span class="promise promise-{key}">{each}</span>' for key, each in names)
    return f"{found['start']}{labels}</td>"
