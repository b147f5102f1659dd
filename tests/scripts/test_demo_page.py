"""The demo's page: one file that loads nothing, a picture with the same content, and points at the same places in both."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from chart import Label, Line, draw, svg
from demo_page import DemoResults, dial_position, duration, facts_of, reference_layout, score_table_of, title_of
from demo_page_html import data_uri, html
from demo_page_png import WIDTH_PX, picture
from demo_pages import COLUMNS, PageReader, demo_results, score_points, shown
from lettering import width_of, wrap, write
from loss_plot import loss_chart, thinned
from palette import DARK, dial_colour
from PIL import Image
from score_plot import HEIGHT, LEFT, WIDTH, axis_of, label_marks, places_of, score_chart


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    page = html(demo_results())
    read = PageReader(page)
    assert not read.open_tags and page.startswith("<!doctype html>")
    assert not {"script", "link", "iframe", "object"} & set(read.tags)
    assert all(source.startswith("data:image/jpeg;base64,") for source in read.values["src"])
    assert len(read.values["src"]) == 3 + 2 * 4 + 1
    assert "http" not in page and "file:" not in page and "url(" not in page and "@import" not in page
    assert "../../README.md" in read.values["href"]
    beside = {link for link in read.values["href"] if not link.startswith("../")}
    assert {"concept.safetensors", "masks.png", "pictures/reference_1.png", "pictures/seed_1_3.png"} <= beside


def test_all_texts_are_escaped() -> None:
    rude = "<b>\"&'V*"
    results = demo_results()
    texts = ("subject", "prompt", "device", "settings", "judged_by", "readme")
    scores = [replace(p, label=rude, asked={rude: 0.5}) for p in score_points()]
    page = html(
        replace(
            results,
            **dict.fromkeys(texts, rude),
            columns=(rude,) * len(COLUMNS),
            row_labels=(rude, rude),
            scores=scores,
            next_lines=(replace(results.next_lines[0], what=rude, command=rude),),
            files=(replace(results.files[0], path=rude, what=rude),),
            references=(shown("red", rude),),
        )
    )
    read = PageReader(page)
    assert not read.open_tags and read.tags.count("b") == 1  # the placeholder of the prompt
    assert read.text.count(rude) >= 15
    assert "%3Cb%3E%22%26%27V%2A" in read.values["href"]


def test_what_was_learned_how_and_where_is_said_in_the_first_lines() -> None:
    results = demo_results()
    assert title_of(results) == "A panda, learned from 3 pictures"
    assert facts_of(results) == "150 steps in 1 min 15 s on the CPU · 3 min 11 s in all"
    alone = replace(results, references=results.references[:1], steps=1, training_seconds=None, device="H100")
    assert title_of(alone) == "A panda, learned from 1 picture"
    assert facts_of(alone) == "1 step on H100 · 3 min 11 s in all"
    text = PageReader(html(results)).text
    assert title_of(results) in text and facts_of(results) in text and "“photo of a V* bear with a guitar”" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.4, "59 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (5000, "1 h 23 min")]
)
def test_a_duration_is_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_points_lie_at_equal_places_in_the_page_and_in_the_picture() -> None:
    points = score_points()
    chart = score_chart(points)
    read = PageReader(svg(chart))
    across, down = (np.array([float(value) for value in read.values[name]]) for name in ("cx", "cy"))
    pixels = np.asarray(draw(chart, 1120)).astype(int)
    for number, (x, y) in enumerate(zip(across, down)):
        colour = dial_colour(dial_position(number + 1, len(points)) or 0.0)
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        found = np.argwhere(np.abs(pixels - wanted).max(axis=2) <= 2)
        assert len(found) > 100
        middle = (found.max(axis=0) + found.min(axis=0) + 1) / 2
        assert np.allclose(middle / 2, (y, x), atol=0.6)
    (plain,) = read.values["points"][-1:]
    corners = np.array([[float(n) for n in corner.split(",")] for corner in plain.split()])
    assert np.allclose(corners.mean(axis=0), places_of(points)[0], atol=0.06)
    x, y = (round(2 * value) for value in places_of(points)[0])
    ink = [int(DARK["ink"][i : i + 2], 16) for i in (1, 3, 5)]
    assert np.abs(pixels[y - 18, x] - ink).max() < 40  # its upper corner
    assert list(zip(across, down)) == [pytest.approx(place, abs=0.06) for place in places_of(points)[1:]]


def test_more_likeness_lies_further_right_and_more_obedience_higher() -> None:
    places = places_of(score_points())
    assert all(one[0] > other[0] and one[1] > other[1] for one, other in pairwise(places))
    assert all(LEFT < x < WIDTH and 0 < y < HEIGHT for x, y in places)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.41, 0.75], (0.4, 0.5, 0.6, 0.7, 0.8)),
        ([0.99, 1.0], (0.9, 0.92, 0.94, 0.96, 0.98, 1.0)),
        ([0.0, 0.0], (0.0, 0.02, 0.04, 0.06, 0.08, 0.1)),
        ([0.0, 1.0], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ([-0.1, 0.3], (-0.1, 0.0, 0.1, 0.2, 0.3)),
    ],
)
def test_an_axis_has_round_ends_around_its_values_and_is_never_too_fine(
    values: list[float], ticks: tuple[float, ...]
) -> None:
    axis = axis_of(values)
    assert axis.ticks == pytest.approx(ticks)
    assert all(0 <= axis.share(value) <= 1 for value in values)


def test_labels_of_near_points_do_not_cover_each_other() -> None:
    places = [(300.0, 200.0), (302.0, 201.0), (304.0, 202.0), (310.0, 198.0)]
    marks = label_marks(COLUMNS, places)
    boxes = [_box(mark) for mark in marks]
    for number, (a, b, c, d) in enumerate(boxes):
        for e, f, g, h in boxes[:number]:
            assert min(c, g) <= max(a, e) or min(d, h) <= max(b, f)


def _box(mark: Label) -> tuple[float, float, float, float]:
    width, (x, y) = width_of(mark.text, mark.size), mark.at
    left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[mark.anchor] * width
    return left, y - 7, left + width, y + 7


def test_without_scores_there_is_no_plot_and_no_table() -> None:
    with_scores, without = demo_results(), demo_results(scores=None, judged_by="")
    read, other = PageReader(html(with_scores)), PageReader(html(without))
    assert read.tags.count("svg") == 2 and "table" in read.tags and "Likeness against obedience" in read.text
    assert other.tags.count("svg") == 1 and "table" not in other.tags and "ikeness" not in other.text
    assert picture(with_scores).height > picture(without).height + 200
    bare = replace(without, masks=None, losses=(), next_lines=(), files=(), readme="")
    assert "svg" not in PageReader(html(bare)).tags
    assert picture(bare).height < picture(without).height


def test_the_table_has_a_line_a_column() -> None:
    table = score_table_of(score_points())
    assert table[0] == ["", "likeness", "obedience", "guitar"] and table[-1] == ["λ 2", "0.60", "0.75", "0.75"]
    assert [line[0] for line in table[1:]] == list(COLUMNS)


@pytest.mark.parametrize("text", ["photo of a V* bear, " * 40, "λ" * 900, "x" * 900 + " y", "short", ""])
def test_a_long_text_is_wrapped_and_none_of_it_lost(text: str) -> None:
    lines = wrap(text, 34, 700)
    assert all(width_of(line, 34) <= 700 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert (len(lines) > 1) == (len(text) > 100)


def written(text: str) -> bytes:
    canvas = Image.new("RGB", (400, 60), "black")
    write(canvas, (5, 30), text, 30, "#ffffff")
    return canvas.tobytes()


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("café Zürich ñ", "cafe Zurich n"),
        ("cafe\u0301\ufe0f", "cafe"),
        ("Straße → 2 m²", "Strasse -> 2 m2"),
        ("½ × 3−1", "1/2 x 3-1"),
        ("a\u00a0b", "a b"),
        ("5 € ж漢한", "5 ? ???"),
    ],
)
def test_letters_that_the_font_lacks_are_spelt_in_those_it_has(text: str, spelt: str) -> None:
    assert written(text) == written(spelt) and width_of(text, 30) == width_of(spelt, 30)


def test_letters_that_the_font_has_stay() -> None:
    for letter in "“”…·°λ":
        assert written(letter) not in (written("?"), written(""))


def test_a_long_prompt_makes_the_picture_higher_and_not_wider() -> None:
    usual, long = picture(demo_results()), picture(demo_results(prompt="photo of a V* bear " * 40))
    assert usual.width == long.width == WIDTH_PX and long.height > usual.height + 200


def test_the_picture_shows_what_it_was_given() -> None:
    def share(image: Image.Image, colour: tuple[int, int, int]) -> float:
        return float((np.asarray(image) == colour).all(axis=2).mean())

    page = picture(demo_results())
    assert share(page, (255, 0, 0)) > 0.005 and share(page, (0, 128, 0)) > 0.1 and share(page, (0, 0, 255)) > 0.05
    assert share(picture(demo_results(masks=None)), (0, 0, 255)) == 0


@pytest.mark.parametrize(
    ("count", "rows", "layout"),
    [
        (6, 3, (1, 6, 0.5)),
        (6, 4, (1, 6, 2 / 3)),
        (6, 2, (2, 3, 2 / 3)),
        (6, 1, (3, 2, 1.4 / 3)),
        (4, 4, (1, 4, 1.0)),
        (8, 2, (2, 4, 0.5)),
        (1, 4, (1, 1, 1.0)),
    ],
)
def test_references_are_stacked_so_that_they_are_largest(count: int, rows: int, layout: tuple[int, int, float]) -> None:
    assert reference_layout(count, rows) == pytest.approx(layout)


def test_a_picture_in_the_page_is_reduced_and_another_kept() -> None:
    for edge, expected in ((2000, 512), (256, 256)):
        uri = data_uri(Image.new("RGB", (edge, edge // 2), "red"))
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
            assert image.size == (expected, expected // 2)


def test_a_long_run_of_losses_is_thinned_by_means() -> None:
    assert thinned([1.0, 3.0, 5.0, 7.0, 9.0], most=3) == [(1.5, 2.0), (3.5, 6.0), (5.0, 9.0)]
    assert thinned([1.0, 2.0], most=2) == [(1.0, 1.0), (2.0, 2.0)]
    assert len(loss_chart([0.5] * 5000).marks) < 30 and loss_chart([0.5]).marks


def test_losses_that_are_not_finite_are_left_out_of_the_curves_and_not_of_the_axis() -> None:
    chart = loss_chart([0.4, 0.3, float("nan"), float("inf"), -float("inf")])
    curves = [mark.points for mark in chart.marks if isinstance(mark, Line) and mark.role in ("faint", "curve")]
    assert [len(curve) for curve in curves] == [2, 2] and np.isfinite(curves).all()
    usual = loss_chart([0.4, 0.3, 0.3, 0.3, 0.4])
    assert curves[0] == next(mark.points for mark in usual.marks if isinstance(mark, Line) and mark.role == "faint")[:2]
    draw(chart, 560)


def test_what_does_not_fit_together_is_refused() -> None:
    results: DemoResults = demo_results()
    with pytest.raises(ValueError, match="give one at least"):
        replace(results, references=())
    with pytest.raises(ValueError, match=r"rows have \[4, 3\] pictures"):
        replace(results, rows=(results.rows[0], results.rows[1][:3]))
    with pytest.raises(ValueError, match="give one row a label"):
        replace(results, row_labels=("seed 0",))
    with pytest.raises(ValueError, match="give one for each column"):
        replace(results, scores=score_points()[1:])
