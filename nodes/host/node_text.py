"""The line of text that a node shows while and after it runs."""

from __future__ import annotations

from collections.abc import Callable

from ...dci_core.log import LOG
from .server import running_server

Tell = Callable[[str], None]
"""Shows a text somewhere."""


def send_text(text: str, node_id: str) -> None:
    """Show a text on a node of the graph; without a server nothing happens.

    One of the frontend's two canvases reads Markdown, in which a line ends only after two blanks; the other shows the text.
    """
    server = running_server()
    if server is not None:
        server.send_progress_text(text.replace("\n", "  \n"), node_id)


def text_of_node(node_id: str | None) -> Tell | None:
    """Return a function that shows a text on a node of the graph, or None without one."""
    return None if node_id is None else lambda text: send_text(text, node_id)


def text_of_each(tell: Tell | None) -> Callable[[str], Tell | None]:
    """Return a function that gives each labelled run a line of its own in one node's text; a later run takes its place."""
    lines: dict[str, str] = {}

    def labelled(label: str) -> Tell | None:
        def show_line(text: str) -> None:
            lines[label] = f"{label}: {text}"
            show("\n".join(lines.values()), tell)

        return show_line if tell is not None else None

    return labelled


def announce(text: str, tell: Tell | None) -> None:
    """Log a line and show it on the node."""
    LOG.info("DCI: %s", text)
    show(text, tell)


def warn(text: str, tell: Tell | None) -> None:
    """Log a warning and show it on the node."""
    LOG.warning("DCI: %s", text)
    show(text, tell)


def show(text: str, tell: Tell | None) -> None:
    """Show a text on the node, where there is one."""
    if tell is not None:
        tell(text)
