"""What the client makes of the messages on the host's websocket; the rest is tested on a real server."""

from __future__ import annotations

import json

import pytest

from workbench.comfy_client import event_of


def test_a_message_in_json_is_its_type_and_data() -> None:
    data = {"node": "10", "value": 3, "max": 4, "prompt_id": "a"}
    assert event_of(json.dumps({"type": "progress", "data": data})) == ("progress", data)
    assert event_of('{"type": "crystools.monitor"}') == ("crystools.monitor", {})


def test_the_text_of_a_node_is_told_with_its_node() -> None:
    message = (3).to_bytes(4, "big") + (4).to_bytes(4, "big") + b"12:5" + "step 3 of 4, λ 1".encode()
    assert event_of(message) == ("text", {"node": "12:5", "text": "step 3 of 4, λ 1"})


@pytest.mark.parametrize("message", [(1).to_bytes(4, "big") + b"\xff\xd8picture", b"", ConnectionResetError("gone")])
def test_pictures_and_broken_connections_are_no_events(message: object) -> None:
    assert event_of(message) == ("", {})
