"""The pages that commands leave behind: one look, no script, nothing fetched from a network."""

from __future__ import annotations

import html
from collections.abc import Iterable

_STYLE = """body{font:14px sans-serif;margin:2em;color:#222}table{border-collapse:collapse;margin-bottom:2em}
td,th{padding:4px 10px;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}
td.n{text-align:right}.look{background:#fff4d6}img{max-width:12em;max-height:12em;background:#000;cursor:zoom-in}
input.zoom{display:none}input.zoom:checked+img{position:fixed;inset:2vh 2vw;margin:auto;width:96vw;height:96vh;
max-width:none;max-height:none;object-fit:contain;cursor:zoom-out;image-rendering:pixelated}"""


def page(title: str, *parts: str) -> str:
    """Return a page.

    Args:
        title: Its title, as text.
        parts: What it shows, as HTML.
    """
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )


def table(heads: Iterable[str], rows: Iterable[str]) -> str:
    """Return a table of rows that are HTML already, under heads that are text."""
    return f"<table><tr>{''.join(f'<th>{html.escape(head)}</th>' for head in heads)}</tr>{''.join(rows)}</table>"


def zoomable(source: str) -> str:
    """Return a small picture that a click makes large, and another click small again."""
    return f'<label><input class="zoom" type="checkbox"><img loading="lazy" alt="" src="{source}"></label>'
