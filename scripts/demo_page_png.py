"""The demo's page as one picture, drawn with Pillow in dark colours: the same content, for where no page can be shown."""

from __future__ import annotations

from chart import draw
from demo_page import (
    FILES,
    LOSS,
    MASKS,
    MASKS_SAY,
    NEXT,
    OVER,
    PLACEHOLDER,
    SCORES,
    SCORES_SAY,
    DemoResults,
    ScorePoint,
    dial_position,
    facts_of,
    score_table_of,
    scores_note_of,
    title_of,
)
from grid_picture import grid_block
from lettering import ANCHORS, width_of, write
from loss_plot import loss_chart
from palette import DARK
from picture_blocks import (
    BODY,
    CARD_GAP_PX,
    HEADING,
    LINE,
    NOTE,
    PADDING_PX,
    PROMPT,
    TITLE,
    Text,
    card,
    code_block,
    marked_label,
    stacked,
    texts_block,
)
from PIL import Image, ImageDraw, ImageOps
from score_plot import score_chart

WIDTH_PX = 1600
MARGIN_PX = 48
INNER_PX = WIDTH_PX - 2 * MARGIN_PX
CARD_INNER_PX = INNER_PX - 2 * PADDING_PX
SCORES_PX = round(INNER_PX * 0.53)  # width of the card with the plot of scores
LOSS_UNITS = 0.85  # of the plot of losses to a pixel
HIGHEST_MASKS_PX = 700
LEAST_NOTE_PX = 420  # that the note about the masks takes beside them; with less it goes below


def picture(results: DemoResults) -> Image.Image:
    """Return the whole page, 1600 pixels wide and as high as its content."""
    blocks = [
        _header(results),
        *_sweep(results),
        _plots(results),
        _masks(results),
        _next_lines(results),
        _files(results),
    ]
    content = stacked([block for block in blocks if block is not None], CARD_GAP_PX, "ground")
    page = Image.new("RGB", (WIDTH_PX, content.height + 2 * MARGIN_PX), DARK["ground"])
    page.paste(content, (MARGIN_PX, MARGIN_PX))
    return page


def _header(results: DemoResults) -> Image.Image:
    texts = [
        Text(OVER, NOTE, "accent"),
        Text(title_of(results), TITLE, bold_px=1),
        Text(facts_of(results), BODY, "faint"),
    ]
    prompt = Text(f"“{results.prompt}”", PROMPT, marked=PLACEHOLDER)
    return stacked([texts_block(texts, INNER_PX, "ground"), texts_block([prompt], INNER_PX, "ground")], 14, "ground")


def _sweep(results: DemoResults) -> list[Image.Image]:
    note = texts_block([Text(results.settings, NOTE, "faint")], INNER_PX, "ground")
    return [stacked([grid_block(results, INNER_PX), note], 8, "ground")]


def _plots(results: DemoResults) -> Image.Image | None:
    """Return the scores at the left, their table and the losses at the right; what there is of it, over the whole width."""
    width = INNER_PX - SCORES_PX - CARD_GAP_PX if results.scores else INNER_PX
    right = [_table_card(results, results.scores, width)] if results.scores else []
    right += [_loss_card(results.losses, width)] if results.losses else []
    if not right:
        return None
    beside = stacked(right, CARD_GAP_PX, "ground")
    if not results.scores:
        return beside
    scores = _score_card(results.scores, beside.height)
    canvas = Image.new("RGB", (INNER_PX, scores.height), DARK["ground"])
    canvas.paste(scores, (0, 0))
    canvas.paste(beside, (INNER_PX - width, 0))
    return canvas


def _score_card(scores: list[ScorePoint], height_px: int) -> Image.Image:
    inner = SCORES_PX - 2 * PADDING_PX
    title = texts_block([Text(SCORES, HEADING)], inner, "card")
    note = texts_block([Text(SCORES_SAY, NOTE, "faint")], inner, "card")
    return card([title, draw(score_chart(scores), inner), note], SCORES_PX, height_px)


def _loss_card(losses: tuple[float, ...], width_px: int) -> Image.Image:
    inner = width_px - 2 * PADDING_PX
    title = texts_block([Text(LOSS, HEADING)], inner, "card")
    return card([title, draw(loss_chart(losses, inner * LOSS_UNITS), inner)], width_px)


def _table_card(results: DemoResults, scores: list[ScorePoint], width_px: int) -> Image.Image:
    inner = width_px - 2 * PADDING_PX
    head, *lines = score_table_of(scores)
    labels = [marked_label(line[0], BODY, dial_position(row, len(lines)), "card") for row, line in enumerate(lines)]
    first = max(label.width for label in labels)
    pitch = (inner - first) / (len(head) - 1)
    size = min(float(NOTE), NOTE * (pitch - 12) / max(width_of(title, NOTE) for title in head[1:]))
    height = round(BODY * LINE) + 4
    table = Image.new("RGB", (inner, height * (len(lines) + 1)), DARK["card"])
    ImageDraw.Draw(table).line([(0, height - 2), (inner, height - 2)], DARK["line"], 2)
    for row, line in enumerate((head, *lines)):
        letters, colour = (size, DARK["faint"]) if row == 0 else (BODY, DARK["ink"])
        for column, value in enumerate(line[1:], 1):
            write(table, (first + column * pitch, (row + 0.5) * height), value, letters, colour, ANCHORS["end"])
    for row, label in enumerate(labels, 1):
        table.paste(label, (0, row * height + 2))
    return card([table, texts_block([Text(scores_note_of(results), NOTE, "faint")], inner, "card")], width_px)


def _masks(results: DemoResults) -> Image.Image | None:
    if results.masks is None:
        return None
    size = (CARD_INNER_PX, HIGHEST_MASKS_PX)
    image = ImageOps.contain(results.masks.image.convert("RGB"), size, Image.Resampling.LANCZOS)
    title, note = texts_block([Text(MASKS, HEADING)], CARD_INNER_PX, "card"), Text(MASKS_SAY, NOTE, "faint")
    beside = CARD_INNER_PX - image.width - CARD_GAP_PX
    if beside < LEAST_NOTE_PX:
        return card([title, image, texts_block([note], CARD_INNER_PX, "card")], INNER_PX)
    both = Image.new("RGB", (CARD_INNER_PX, image.height), DARK["card"])
    both.paste(image, (0, 0))
    both.paste(texts_block([note], beside, "card"), (image.width + CARD_GAP_PX, 0))
    return card([title, both], INNER_PX)


def _next_lines(results: DemoResults) -> Image.Image | None:
    if not results.next_lines:
        return None
    blocks = [texts_block([Text(NEXT, HEADING)], CARD_INNER_PX, "card")]
    for line in results.next_lines:
        blocks.append(texts_block([Text(line.what, NOTE, "faint")], CARD_INNER_PX, "card"))
        blocks.append(code_block(line.command, CARD_INNER_PX))
    return card(blocks, INNER_PX)


def _files(results: DemoResults) -> Image.Image | None:
    if not results.files:
        return None
    listed = " · ".join(f"{file.path} ({file.what})" for file in results.files)
    return texts_block([Text(f"{FILES}: {listed}", NOTE, "faint")], INNER_PX, "ground")
