"""Small tables and sentences as plain text and as HTML."""

from collections.abc import Sequence
from html import escape

from lmmkit.records import record


@record
class Table:
    """Cells that are already text, under a title.

    Attributes
    ----------
    title : str
    header : tuple of str
    rows : tuple of tuple of str
    n_labels : int
        The first columns, which are labels, not numbers, and align left.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_labels: int = 0


def text_document(headings: Sequence[str], tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Headings, tables and notes, separated by empty lines."""
    parts = ["\n".join(headings), *map(_text_table, tables), "\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


def html_document(headings: Sequence[str], tables: Sequence[Table], notes: Sequence[str]) -> str:
    """The same as one ``div``; every text is escaped."""
    parts = [*map(_paragraph, headings), *map(_html_table, tables), *map(_paragraph, notes)]
    return f"<div>{''.join(parts)}</div>"


def _text_table(table: Table) -> str:
    lines = [table.header, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    aligned = (
        " ".join(
            cell.ljust(width) if i < table.n_labels else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join([f"{table.title}:", *(f"  {line}".rstrip() for line in aligned)])


def _html_table(table: Table) -> str:
    rows = "".join(f"<tr>{_cells(row, 'td', table.n_labels)}</tr>" for row in table.rows)
    return (
        f"<table><caption>{escape(table.title)}</caption>"
        f"<thead><tr>{_cells(table.header, 'th', table.n_labels)}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _cells(row: Sequence[str], tag: str, n_labels: int) -> str:
    return "".join(
        f'<{tag} style="text-align:{"left" if i < n_labels else "right"}">{escape(cell)}</{tag}>'
        for i, cell in enumerate(row)
    )


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
