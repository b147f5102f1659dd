"""Talk to a running ComfyUI: upload, queue, follow, download. Needs aiohttp, which ComfyUI brings, and nothing of ours."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

Listener = Callable[[str, dict[str, Any]], object]


class RunFailed(RuntimeError):
    """A graph was refused or did not come to a good end; the message is ComfyUI's."""


class ComfyClient:
    """A ComfyUI at an address such as "127.0.0.1:8188"."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get_bytes(self, path: str) -> bytes:
        """Return what a path answers with."""
        with urlopen(f"http://{self.address}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def get(self, path: str) -> Any:
        """Return the JSON that a path answers with."""
        return json.loads(self.get_bytes(path))

    def post(self, path: str, body: Any, kind: str = "application/json") -> Any:
        """Send JSON, or bytes of another kind; return the JSON answer, also that of a refusal."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            with urlopen(Request(f"http://{self.address}{path}", data, {"Content-Type": kind}), timeout=60) as answer:
                text = answer.read()
        except HTTPError as refusal:
            text = refusal.read()
        return json.loads(text) if text else {}

    def upload(self, picture: Path) -> str:
        """Put a picture into the input folder; return its name there, which has a number where another has it."""
        edge = uuid.uuid4().hex
        field = f'Content-Disposition: form-data; name="image"; filename="{picture.name}"'
        body = f"--{edge}\r\n{field}\r\n\r\n".encode() + picture.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        return str(self.post("/upload/image", body, f"multipart/form-data; boundary={edge}")["name"])

    def pictures(self, entry: dict[str, Any], node: str) -> list[bytes]:
        """Return the files of the pictures that a node saved in the run of a history entry."""
        return [self.get_bytes(f"/view?{urlencode(file)}") for file in entry["outputs"][node]["images"]]

    def run(self, graph: dict[str, Any], on_event: Listener = lambda kind, data: None) -> dict[str, Any]:
        """Queue a graph in API form, follow it, and return its history entry; whatever stops it is an error.

        Args:
            graph: nodes by id.
            on_event: is told the type and data of each message; "text" is what a "node" says below itself.

        Raises:
            RunFailed: a node was refused, failed or was interrupted.
        """
        entry = self.run_to_any_end(graph, on_event)
        for kind, data in entry["status"]["messages"]:
            if kind in ("execution_error", "execution_interrupted"):
                raise RunFailed(f"{data['node_type']}: {data.get('exception_message', 'interrupted')}")
        return entry

    def run_to_any_end(self, graph: dict[str, Any], on_event: Listener = lambda kind, data: None) -> dict[str, Any]:
        """Like ``run``, but the entry of a failed or interrupted run is returned too."""
        return asyncio.run(self._follow(graph, on_event))

    async def _follow(self, graph: dict[str, Any], on_event: Listener) -> dict[str, Any]:
        import aiohttp

        client = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://{self.address}/ws?clientId={client}", max_msg_size=0) as socket,
        ):
            answer = self.post("/prompt", {"prompt": graph, "client_id": client})
            job, refused = answer.get("prompt_id"), answer.get("node_errors")
            if job is None or refused:
                await self._withdraw(job)
                raise RunFailed(json.dumps(refused or answer, indent=1, ensure_ascii=False))
            async for message in socket:
                kind, data = event_of(message.data)
                if kind == "executing" and data["node"] is None and data.get("prompt_id") == job:
                    return dict(self.get(f"/history/{job}")[job])  # the host writes it before this last word
                if kind and data.get("prompt_id", job) == job:
                    on_event(kind, data)
        raise RunFailed("ComfyUI closed the connection; its log says why.")

    async def _withdraw(self, job: str | None) -> None:
        """Take back a graph of which the host runs a part although another part was refused."""
        while job and any(job in entry for entries in self.get("/queue").values() for entry in entries):
            self.post("/queue", {"delete": [job]})
            self.post("/interrupt", {"prompt_id": job})
            await asyncio.sleep(0.2)


def event_of(message: object) -> tuple[str, dict[str, Any]]:
    """Return the type and data of a message of the websocket; "" and nothing for pictures and the like."""
    if isinstance(message, str):
        event = json.loads(message)
        return event["type"], event.get("data") or {}
    if not isinstance(message, bytes) or int.from_bytes(message[:4], "big") != 3:  # the number of a node's text
        return "", {}
    end = 8 + int.from_bytes(message[4:8], "big")
    return "text", {"node": message[8:end].decode(), "text": message[end:].decode(errors="replace")}
