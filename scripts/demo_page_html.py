"""The demo's page as one HTML file: no script, and nothing is loaded; only links lead out of it."""

from __future__ import annotations

import base64
import io
from html import escape
from urllib.parse import quote

from chart import svg
from demo_page import (
    FILES,
    KEEPS,
    LETS_IN,
    LOSS,
    MASKS,
    MASKS_SAY,
    NEXT,
    OVER,
    PLACEHOLDER,
    REFERENCES,
    SCORES,
    SCORES_SAY,
    DemoResults,
    ScorePoint,
    Shown,
    dial_position,
    facts_of,
    reference_layout,
    score_table_of,
    scores_note_of,
    title_of,
)
from demo_page_style import STYLE
from loss_plot import loss_chart
from palette import dial_colour
from PIL import Image
from score_plot import score_chart

LONGEST_PX = 512  # edge of a picture within the page; the file beside it is whole
LONGEST_MASKS_PX = 2048
QUALITY = 90
ROOM_BESIDE = 0.35  # width of row labels and gaps of the grid, in pictures


def html(results: DemoResults) -> str:
    """Return the whole page; all texts are escaped."""
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title_of(results))}</title><style>{STYLE}</style></head><body><main>",
        _header(results),
        _grid(results),
        _plots(results),
        _masks(results),
        _next_lines(results),
        _files(results),
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def data_uri(image: Image.Image, longest_px: int = LONGEST_PX) -> str:
    """Return a picture as a data URI, reduced to that edge where it is larger."""
    small = image.convert("RGB")
    small.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _header(results: DemoResults) -> str:
    prompt = escape(results.prompt).replace(PLACEHOLDER, f"<b>{PLACEHOLDER}</b>")
    return (
        f'<header><p class="over">{OVER}</p><h1>{escape(title_of(results))}</h1>'
        f'<p class="facts">{escape(facts_of(results))}</p><p class="prompt">“{prompt}”</p></header>'
    )


def _grid(results: DemoResults) -> str:
    """Return the references, and beside them the pictures; each cell says its row and column, which a phone exchanges."""
    columns, rows = len(results.columns), len(results.rows)
    across, lines, edge = reference_layout(len(results.references), rows)
    stack = "".join(
        _picture(shown, f"{results.subject}, reference {number}") for number, shown in enumerate(results.references, 1)
    )
    cells = [_cell("hint keeps", 1, 3, KEEPS), _cell("hint lets", 1, columns + 3, LETS_IN)]
    for column, label in enumerate(results.columns):
        cells.append(_cell("head", 2, _column(column), f"{_mark(column, columns)}{escape(label)}"))
    for line, (row, name) in enumerate(zip(results.rows, results.row_labels)):
        cells.append(_cell("side", line + 3, 1, escape(name)))
        for column, shown in enumerate(row):
            text = f"{results.columns[column]}, {name}"
            cells.append(_cell("shot", line + 3, _column(column), _picture(shown, text)))
    below = rows - lines * edge  # what the stack leaves free, in pictures
    heights = f"repeat({lines},minmax(0,{edge:.3f}fr))" + (f" minmax(0,{below:.3f}fr)" if below > 0.01 else "")
    return (
        f'<section class="sweep" style="--columns:{columns - 1};--rows:{rows};--across:{across};--heights:{heights};'
        f'--stack:{across * edge:.3f}fr;--wide:{columns + ROOM_BESIDE:g}fr">'
        f'<figure class="references"><figcaption>{REFERENCES}</figcaption><div>{stack}</div></figure>'
        f'<div class="grid">{"".join(cells)}</div><p class="note">{escape(results.settings)}</p></section>'
    )


def _column(column: int) -> int:
    """Return the line of the grid that a column stands in: after the row labels, and after a gap all but the first."""
    return 2 if column == 0 else column + 3


def _cell(kind: str, row: int, column: int, content: str) -> str:
    return f'<div class="{kind}" style="--r:{row};--c:{column}">{content}</div>'


def _mark(column: int, columns: int) -> str:
    """Return the mark that a column has in the plot of scores."""
    position = dial_position(column, columns)
    return '<i class="plain"></i>' if position is None else f'<i style="background:{dial_colour(position)}"></i>'


def _picture(shown: Shown, text: str, longest_px: int = LONGEST_PX) -> str:
    size = f'width="{shown.image.width}" height="{shown.image.height}"'
    image = f'<img src="{data_uri(shown.image, longest_px)}" alt="{escape(text)}" {size}>'
    return f'<a href="{escape(quote(shown.file))}" title="{escape(text)}">{image}</a>'


def _plots(results: DemoResults) -> str:
    cards = []
    if results.scores:
        cards.append(
            f'<section class="card"><h2>{SCORES}</h2>{svg(score_chart(results.scores))}<p class="note">{SCORES_SAY}</p></section>'
        )
    side = _table(results, results.scores) if results.scores else ""
    if results.losses:
        side += f'<section class="card"><h2>{LOSS}</h2>{svg(loss_chart(results.losses))}</section>'
    cards += [f'<div class="side-by-side">{side}</div>'] if side else []
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _table(results: DemoResults, scores: list[ScorePoint]) -> str:
    head, *lines = score_table_of(scores)
    rows = []
    for column, (label, *values) in enumerate(lines):
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        rows.append(f'<tr><th scope="row">{_mark(column, len(lines))}{escape(label)}</th>{cells}</tr>')
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    return (
        f'<section class="card"><div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f'<p class="note">{escape(scores_note_of(results))}</p></section>'
    )


def _masks(results: DemoResults) -> str:
    if results.masks is None:
        return ""
    picture = _picture(results.masks, MASKS, LONGEST_MASKS_PX)
    return f'<section class="card masks"><h2>{MASKS}</h2><div class="wide">{picture}</div><p class="note">{MASKS_SAY}</p></section>'


def _next_lines(results: DemoResults) -> str:
    lines = "".join(f"<p>{escape(line.what)}</p><pre>{escape(line.command)}</pre>" for line in results.next_lines)
    return f'<section class="card"><h2>{NEXT}</h2>{lines}</section>' if lines else ""


def _files(results: DemoResults) -> str:
    links = [
        f'<a href="{escape(quote(file.path))}">{escape(file.path)}</a> {escape(file.what)}' for file in results.files
    ]
    if results.readme:
        links.append(f'<a href="{escape(quote(results.readme, safe="/:"))}">README</a> of the pack')
    listed = "".join(f"<li>{link}</li>" for link in links)
    return f"<footer><h2>{FILES}</h2><ul>{listed}</ul></footer>" if links else ""
