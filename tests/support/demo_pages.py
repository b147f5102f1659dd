"""A page of the demo to be drawn, and a reader of HTML that is strict about what is opened and closed."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from demo_page import DemoResults, LeftFile, NextLine, ScorePoint, Shown
from PIL import Image

COLUMNS = ("no DCI", "λ -2", "λ 0", "λ 2")
VOID = {"meta", "img", "br", "link", "input"}


def shown(colour: str, file: str = "pictures/a.png", size: tuple[int, int] = (64, 64)) -> Shown:
    return Shown(Image.new("RGB", size, colour), file)


def score_points() -> list[ScorePoint]:
    values = ((0.93, 0.41), (0.9, 0.5), (0.8, 0.62), (0.6, 0.75))
    return [
        ScorePoint(label, likeness, obedience, {"guitar": obedience}, plain=label == COLUMNS[0])
        for label, (likeness, obedience) in zip(COLUMNS, values)
    ]


def demo_results(**changes: Any) -> DemoResults:
    usual: dict[str, Any] = {
        "subject": "a panda",
        "prompt": "photo of a V* bear with a guitar",
        "device": "the CPU",
        "steps": 150,
        "training_seconds": 75.2,
        "seconds": 191.4,
        "references": tuple(shown("red", f"pictures/reference_{n}.png") for n in (1, 2, 3)),
        "columns": COLUMNS,
        "row_labels": ("seed 0", "seed 1"),
        "rows": tuple(
            tuple(shown("green", f"pictures/seed_{row}_{column}.png") for column in range(len(COLUMNS)))
            for row in (0, 1)
        ),
        "settings": "euler, 20 steps",
        "masks": shown("blue", "masks.png", (300, 90)),
        "losses": (0.3, 0.2, 0.1),
        "scores": score_points(),
        "judged_by": "the judge",
        "next_lines": (NextLine("Another subject:", 'python scripts/demo.py --scene "in space"'),),
        "files": (LeftFile("concept.safetensors", "the concept"),),
        "readme": "../../README.md",
    }
    return DemoResults(**{**usual, **changes})


class PageReader(HTMLParser):
    """Reads a page.

    Attributes:
        text: all of it that is no tag and no style.
        values: of each attribute by its name, in order.
        open_tags: what was opened and not closed; wrong closing tags are an error.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.values: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self.open_tags: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            self.values.setdefault(name, []).append(value or "")
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags and self.open_tags.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not self.open_tags or self.open_tags[-1] != "style":
            self.text += data
