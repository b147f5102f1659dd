"""What the demo's page shows, and the words it says it with; drawn by ``demo_page_html`` and ``demo_page_png``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

PLACEHOLDER = "V*"
WIDEST_STACK = 1.4  # of the column of references, in pictures of the grid
OVER = "ComfyUI DCI · demo"
REFERENCES = "references"
KEEPS, LETS_IN = "keeps to the subject", "lets the prompt in"
SCORES, LOSS, MASKS, NEXT, FILES = (
    "Likeness against obedience",
    "The loss of each training step",
    "Where the auxiliary prompt is let in",
    "Type next",
    "Files",
)
SCORES_SAY = "Right: more surely this very subject. Up: more of what the prompt asks for."
MASKS_SAY = (
    "One picture, and the mean of its masks over it: orange is where your subject has the say, blue where the scene of the "
    "auxiliary prompt is let in."
)


@dataclass(frozen=True)
class Shown:
    """A picture on the page.

    Args:
        image: RGB.
        file: its path from the page's folder.
    """

    image: Image.Image
    file: str


@dataclass(frozen=True)
class ScorePoint:
    """How well the pictures of one column did, as the mean of its rows.

    Args:
        label: of the column.
        likeness: how surely they show the very subject, higher is better.
        obedience: how much they show of what the prompt asks for, higher is better.
        asked: what that is, and how much they show of each; may be empty.
        plain: they were drawn without DCI.
    """

    label: str
    likeness: float
    obedience: float
    asked: Mapping[str, float] = field(default_factory=dict)
    plain: bool = False


@dataclass(frozen=True)
class NextLine:
    """A command to type.

    Args:
        what: it does, as a beginning of a sentence.
        command: for a terminal.
    """

    what: str
    command: str


@dataclass(frozen=True)
class LeftFile:
    """A file or folder beside the page.

    Args:
        path: from the page's folder.
        what: it is.
    """

    path: str
    what: str


@dataclass(frozen=True)
class DemoResults:
    """Everything the page shows.

    Args:
        subject: with its article, "a panda".
        prompt: with the placeholder in it.
        device: that computed, "the CPU".
        steps: of the training.
        training_seconds: that the training took; None when unknown.
        seconds: that everything took, before the pictures were scored and the page drawn.
        references: one at least.
        columns: label of each column of the grid; the first is without DCI, the others go from the least λ to the greatest.
        row_labels: label of each row, a noise each.
        rows: pictures, a tuple a row, each with one picture a column.
        settings: of the sampling, a line.
        masks: a picture of them; None when there are none.
        losses: of each training step; empty when unknown.
        scores: one for each column; None where nobody judged.
        judged_by: who did.
        next_lines: to type.
        files: beside the page.
        readme: link to the pack's README, unquoted.

    Raises:
        ValueError: no reference, no row, or a row or the scores do not fit the columns.
    """

    subject: str
    prompt: str
    device: str
    steps: int
    training_seconds: float | None
    seconds: float
    references: tuple[Shown, ...]
    columns: tuple[str, ...]
    row_labels: tuple[str, ...]
    rows: tuple[tuple[Shown, ...], ...]
    settings: str
    masks: Shown | None = None
    losses: tuple[float, ...] = ()
    scores: list[ScorePoint] | None = None
    judged_by: str = ""
    next_lines: tuple[NextLine, ...] = ()
    files: tuple[LeftFile, ...] = ()
    readme: str = ""

    def __post_init__(self) -> None:
        if not self.references:
            raise ValueError("There are no reference pictures; give one at least.")
        sizes = [len(row) for row in self.rows]
        if not sizes or set(sizes) != {len(self.columns)} or len(sizes) != len(self.row_labels):
            raise ValueError(
                f"The rows have {sizes} pictures, but there are {len(self.row_labels)} row labels and {len(self.columns)} columns; "
                "give one row a label, with one picture a column."
            )
        if self.scores is not None and [point.label for point in self.scores] != list(self.columns):
            raise ValueError(
                f"The scores are of {[point.label for point in self.scores]}, the columns are {list(self.columns)}; "
                "give one for each column, in order."
            )


def title_of(results: DemoResults) -> str:
    """Return what was learned, from how many pictures."""
    count = len(results.references)
    return f"{results.subject[:1].upper()}{results.subject[1:]}, learned from {count} picture{'s' * (count != 1)}"


def facts_of(results: DemoResults) -> str:
    """Return in how many steps and seconds it was learned, and on what."""
    steps = f"{results.steps} step{'s' * (results.steps != 1)}"
    took = "" if results.training_seconds is None else f" in {duration(results.training_seconds)}"
    return f"{steps}{took} on {results.device} · {duration(results.seconds)} in all"


def scores_note_of(results: DemoResults) -> str:
    """Return whose scores they are and of how many pictures."""
    rows = len(results.rows)
    return f"Mean of {rows} picture{'s' * (rows != 1)} a point, scored 0 … 1 by {results.judged_by}."


def score_table_of(scores: list[ScorePoint]) -> list[list[str]]:
    """Return the table of the scores: its head, then a line for each point."""
    asked = list(scores[0].asked)
    lines = [["", "likeness", "obedience", *asked]]
    for point in scores:
        values = (point.likeness, point.obedience, *(point.asked[name] for name in asked))
        lines.append([point.label, *(f"{value:.2f}" for value in values)])
    return lines


def duration(seconds: float) -> str:
    """Return a time as text, to the second; minutes alone from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def reference_layout(count: int, rows: int) -> tuple[int, int, float]:
    """Return how references are stacked in a column beside the grid, which they fill from above.

    Args:
        count: of references.
        rows: of the grid.

    Returns:
        columns and lines of the stack, and the edge of each reference in pictures of the grid: those that show them
        largest and leave the least of the column free.
    """

    def edge(across: int) -> float:
        return min(rows / -(-count // across), WIDEST_STACK / across, 1.0)

    def filled(across: int) -> float:
        return -(-count // across) * edge(across) / rows

    across = max(range(1, count + 1), key=lambda number: edge(number) * filled(number))
    return across, -(-count // across), edge(across)


def dial_position(column: int, columns: int) -> float | None:
    """Return where a column stands on the dial: 0 for the least λ, 1 for the greatest, None for the first, without DCI."""
    if column == 0:
        return None
    return (column - 1) / (columns - 2) if columns > 2 else 0.5
