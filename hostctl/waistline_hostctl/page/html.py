"""HTML that every section of the report is made of; text is escaped by whoever has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from waistline_hostctl.console import si

Dicts = list[dict[str, Any]]
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def document(title: str, sections: Iterable[str], *, style: str = "") -> bytes:
    """A whole page that opens from disk and may load nothing; ``style`` comes behind page.css."""
    css = resources.files("waistline_hostctl").joinpath("page.css").read_text(encoding="utf-8")
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}{style}</style></head><body>"
        f"{''.join(sections)}</body></html>\n"
    )
    return page.encode()


def tabulate(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Iterable[int] = (),
    stressed: Sequence[bool] = (),
) -> str:
    """An HTML table; cells are HTML already. ``numbers``: columns set right."""
    right = set(numbers)

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if place in right else ''}>{cell}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(
        f"<tr{' class=stressed' if place < len(stressed) and stressed[place] else ''}>"
        f"{cells('td', row)}</tr>"
        for place, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", headings)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def grade(evidence: str) -> str:
    return f'<span class="grade {escape(evidence)}">{escape(evidence)}</span>'


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def bare_percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def bare(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def maybe(value: float | None) -> str:
    return "" if value is None else si(value, "s")


def word(words: Mapping[str, str], name: str) -> str:
    return words.get(name, name)


def legend(used: Mapping[str, int], palette: str = "s") -> str:
    """Names with their shades; ``palette``: ``s`` of charts, ``d`` of boxes on pictures."""
    items = "".join(
        f'<span><i class="{palette}{shade}"></i>{escape(word)}</span>'
        for word, shade in used.items()
    )
    return f'<div class="legend">{items}</div>'
