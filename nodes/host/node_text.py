"""The line of text that a node shows while and after it runs."""

from __future__ import annotations


def send_text(text: str, node_id: str) -> None:
    """Show a text on a node of the graph; without a server nothing happens."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_progress_text(text, node_id)
