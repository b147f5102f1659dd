"""ComfyUI's own page in a real browser, with what tests do on it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from workbench.comfy_server import ComfyServer

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "CHROMIUM_PATH"
HOW = (
    f"Install Chromium (Debian: apt-get install chromium), or set {VARIABLE} to it, and pip install playwright into the environment of "
    "the tests; its own browsers are not needed."
)
READY = "() => window.app?.graph && !!window.LiteGraph?.registered_node_types?.ICOTrainer"
OURS = ("dci", "unseen.js")
"""What a message of the console holds that comes from the pack."""
VIEWPORT = {"width": 1600, "height": 1000}
LOAD_MS, RUN_MS, SETTLE_MS = 120_000, 240_000, 600

_MEASURE = """() => app.graph._nodes.map((node) => ({
  id: node.id, type: node.type, title: node.title, box: [...node.getBounding()],
  known: node.type === "MarkdownNote" || !!LiteGraph.registered_node_types[node.type],
}))"""
_SET = """(values) => {
  for (const node of app.graph._nodes) {
    for (const widget of node.widgets ?? []) {
      const given = values[node.type]?.[widget.name];
      if (given !== undefined) widget.value = given;
    }
  }
}"""
_SHOWN = """(kind) => app.graph._nodes.find((node) => node.type === kind).widgets
  .filter((widget) => !widget.hidden).map((widget) => widget.name)"""
_PICTURES = """() => Object.fromEntries(app.graph._nodes.filter((node) => node.imgs?.length)
  .map((node) => [node.title, node.imgs.length]))"""
_ARE_THERE = (
    """() => app.graph._nodes.every((node) => !app.nodeOutputs[node.id]?.images?.length || node.imgs?.length)"""
)
_TEXTS = """() => Object.fromEntries(app.graph._nodes.map((node) => [node.type,
  (node.widgets ?? []).filter((widget) => widget.type === "progressText").map((widget) => widget.value).join("")]))"""


def chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)


class Canvas:
    """The page of one server, one canvas of two.

    Args:
        page: of playwright.
        server: that it shows.
        nodes_2: whether nodes are drawn by the newer canvas.
    """

    def __init__(self, page: Any, server: ComfyServer, nodes_2: bool = False) -> None:
        self.page, self.server, self.nodes_2 = page, server, nodes_2
        self.said: list[str] = []
        """Errors and warnings of the console that come from the pack."""
        self._ended: set[str] = set()
        page.on("console", lambda message: self._hear(message.type, f"{message.text} {message.location}"))
        page.on("pageerror", lambda error: self._hear("error", str(error)))
        self.open()

    def open(self) -> None:
        """Load the page anew."""
        self.page.goto(f"http://127.0.0.1:{self.server.port}", wait_until="load", timeout=LOAD_MS)
        self.page.wait_for_function(READY, timeout=LOAD_MS)
        self.page.wait_for_timeout(2 * SETTLE_MS)
        set_canvas = "(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
        self.page.evaluate(set_canvas, self.nodes_2)
        self.page.wait_for_timeout(SETTLE_MS)

    def load(self, graph: dict[str, Any]) -> None:
        """Open a graph of the frontend's form."""
        self.page.evaluate("(graph) => app.loadGraphData(graph)", graph)
        self.page.wait_for_timeout(2 * SETTLE_MS)

    def drop(self, file: Path) -> None:
        """Open a file as if it were dropped on the canvas."""
        with self.page.expect_file_chooser() as chosen:
            self.page.evaluate("""() => { const input = document.createElement("input"); input.type = "file";
              input.onchange = () => app.handleFile(input.files[0]); input.click(); }""")
        chosen.value.set_files(str(file))
        self.page.wait_for_timeout(3 * SETTLE_MS)

    def nodes(self) -> list[dict[str, Any]]:
        """Return id, type, title, box (x, y, width, height) and whether it is known of each node."""
        found: list[dict[str, Any]] = self.page.evaluate(_MEASURE)
        return found

    def scale(self) -> float:
        """Return the zoom."""
        return float(self.page.evaluate("() => app.canvas.ds.scale"))

    def set(self, values: dict[str, dict[str, Any]]) -> None:
        """Set widgets, by the type of their node and their name."""
        self.page.evaluate(_SET, values)

    def shown_widgets(self, kind: str) -> list[str]:
        """Return the names of the widgets that a node shows."""
        found: list[str] = self.page.evaluate(_SHOWN, kind)
        return found

    def prompt(self) -> dict[str, Any]:
        """Return the graph as it would be queued."""
        graph: dict[str, Any] = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        return graph

    def saved(self) -> dict[str, Any]:
        """Return the graph as it would be saved."""
        graph: dict[str, Any] = self.page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
        return graph

    def queue(self) -> None:
        """Press run; the host must take the graph."""
        self._ended = set(self.server.get("/history"))
        self.page.evaluate("() => app.queuePrompt(0)")
        errors = self.page.evaluate("() => app.lastNodeErrors")
        assert not errors, json.dumps(errors)[:2000]

    def wait_for_end(self) -> dict[str, Any]:
        """Wait until what was queued has ended, and return its entry of the history."""
        for _ in range(RUN_MS // SETTLE_MS):
            self.page.wait_for_timeout(SETTLE_MS)
            history: dict[str, dict[str, Any]] = self.server.get("/history")
            new = [entry for key, entry in history.items() if key not in self._ended]
            if new:
                self.page.wait_for_timeout(2 * SETTLE_MS)
                return new[0]
        raise AssertionError(f"Nothing has ended within {RUN_MS / 1000:.0f} s.")

    def run(self) -> dict[str, Any]:
        """Queue and wait; the run must succeed."""
        self.queue()
        entry = self.wait_for_end()
        assert entry["status"]["status_str"] == "success", json.dumps(entry["status"])[-2000:]
        return entry

    def pictures(self) -> dict[str, int]:
        """Return how many pictures each node shows that shows any, by its title, once they are there."""
        self.page.wait_for_function(_ARE_THERE, timeout=30_000)
        found: dict[str, int] = self.page.evaluate(_PICTURES)
        return found

    def texts(self) -> dict[str, str]:
        """Return the text below each node, by its type."""
        found: dict[str, str] = self.page.evaluate(_TEXTS)
        return found

    def screenshot(self, path: Path) -> None:
        """Keep what is seen."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(path))

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and any(word in text.lower() for word in OURS):
            self.said.append(text)
