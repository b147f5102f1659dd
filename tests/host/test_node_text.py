"""What a node shows beside its picture is also in the log, one line for each labelled run."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from comfyui_dci.nodes.host import node_text
from comfyui_dci.nodes.host.node_text import announce, send_text, show, text_of_each, text_of_node


def test_an_announcement_is_logged_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    with caplog.at_level(logging.INFO, "comfyui_dci"):
        announce("100 % done", told.append)
        announce("nowhere to show it", None)
    assert told == ["100 % done"]
    assert caplog.messages == ["DCI: 100 % done", "DCI: nowhere to show it"]


def test_without_a_node_there_is_nothing_to_show_on() -> None:
    assert text_of_node(None) is None
    assert text_of_each(None)("λ 1") is None
    show("text", None)


def test_each_labelled_run_has_one_line_and_a_later_one_takes_its_place() -> None:
    told: list[str] = []
    labelled = text_of_each(told.append)
    show("a", labelled("λ 0"))
    show("b", labelled("λ 1"))
    show("c", labelled("λ 0"))
    assert told == ["λ 0: a", "λ 0: a\nλ 1: b", "λ 0: c\nλ 1: b"]


def test_lines_end_in_a_canvas_that_reads_markdown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []
    server = SimpleNamespace(send_progress_text=lambda text, node_id: sent.append((text, node_id)))
    monkeypatch.setattr(node_text, "running_server", lambda: server)
    send_text("λ 0: a\nλ 1: b", "7")
    assert sent == [("λ 0: a  \nλ 1: b", "7")]
