"""What the terminal shows while a server runs a graph: a line for each node, and that it is alive in between."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from demo_page import duration

SECONDS_BETWEEN_BEATS = 1.0
SECONDS_OF_SILENCE = 20.0
"""Where lines cannot be written over, in a file for example, after so long the last one is written again."""
SWEEP = "DCILambdaSweep"
OWN_WORDS = ("step ", "class image ")
"""How the texts begin by which a node tells how far it is better than the host does."""


class Terminal:
    """Shows the events of a run; on a terminal the last line counts along, elsewhere a line appears when its node ends.

    Args:
        graph: that runs.
        clock: seconds from anywhere.
    """

    def __init__(self, graph: dict[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = {}
        """That the nodes of each class took so far."""
        self._graph, self._clock = graph, clock
        self._node = ""
        self._stage = ""
        self._status = ""
        self._started = self._said_at = clock()
        self._sampled = 0
        self._last_step = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, daemon=True)

    def __enter__(self) -> Terminal:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._heart.join()
        with self._lock:
            self._end_line()

    def show_stage(self, text: str) -> None:
        """Show what happens outside the graph from now on."""
        with self._lock:
            self._begin(stage=text)
            if sys.stdout.isatty():
                self._write_over()
            else:
                self._say(text)

    def show_end(self, text: str) -> None:
        """Show what there is to say at the end, of any number of lines."""
        with self._lock:
            self._begin()
            print(text, flush=True)

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        """Take in an event of the server, by its type and data."""
        with self._lock:
            node = data.get("node")
            if kind == "executing" and node != self._node:
                self._begin(node=node or "")
            elif kind == "text" and self._class() != SWEEP:
                self._status = next(
                    reversed(data["text"].splitlines()), ""
                )  # the trainer says above it how the whole run is
            elif kind == "progress" and data["max"] > 1 and not self._status.startswith(OWN_WORDS):
                self._status = self._progress(data["value"], data["max"])
            if sys.stdout.isatty():
                self._write_over()

    def beat(self) -> None:
        """Show that it goes on, where nothing else has been shown for a while."""
        with self._lock:
            if sys.stdout.isatty():
                self._write_over()
            elif self._line() and self._clock() - self._said_at >= SECONDS_OF_SILENCE:
                self._say(self._line())

    def _beat_on(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_BEATS):
            self.beat()

    def _begin(self, node: str = "", stage: str = "") -> None:
        self._end_line()
        self._node, self._stage, self._status = node, stage, ""
        self._started = self._said_at = self._clock()
        self._sampled = self._last_step = 0

    def _end_line(self) -> None:
        if self._node:
            took = self._clock() - self._started
            self.seconds[self._class()] = self.seconds.get(self._class(), 0.0) + took
            self._say(f"  {self._title()}  {self._status}".rstrip())
        elif self._stage and sys.stdout.isatty():
            self._say(self._stage)
        self._node = self._stage = ""

    def _progress(self, step: int, steps: int) -> str:
        """Return how far a node is that counts; the steps of a sweep begin anew with each picture."""
        if step < self._last_step:
            self._sampled += 1
        self._last_step = step
        if self._class() != SWEEP:
            return f"{step} of {steps}{self._left(step / steps)}"
        pictures = pictures_of(self._graph[self._node]["inputs"])
        return f"picture {self._sampled + 1} of {pictures}{self._left((self._sampled + step / steps) / pictures)}"

    def _left(self, done: float) -> str:
        """Return how long the rest takes, once enough is done to tell, as the end of a line."""
        return f", {duration((self._clock() - self._started) * (1 - done) / done)} left" if 0.05 < done < 1 else ""

    def _line(self) -> str:
        if not self._node and not self._stage:
            return ""
        parts = [f"  {self._title()}" if self._node else self._stage, self._status]
        if " left" not in self._status:
            parts.append(duration(self._clock() - self._started))
        return "  ".join(part for part in parts if part)

    def _class(self) -> str:
        return str(self._graph[self._node]["class_type"]) if self._node else ""

    def _title(self) -> str:
        entry = self._graph[self._node]
        return str(entry.get("_meta", {}).get("title") or entry["class_type"])

    def _say(self, line: str) -> None:
        """Write a line that stays."""
        print(f"\r\x1b[K{line}" if sys.stdout.isatty() else line, flush=True)
        self._said_at = self._clock()

    def _write_over(self) -> None:
        """Write the last line of a terminal anew."""
        if self._line():
            print(f"\r\x1b[K{self._line()[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)


def pictures_of(sweep: dict[str, Any]) -> int:
    """Return how many pictures a λ sweep draws, by its inputs: for each seed one without DCI and one for each λ."""
    return int(sweep["seed_count"]) * (1 + len(sweep["injection_strengths"].split(",")))
