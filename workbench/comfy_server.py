"""A headless ComfyUI on a loopback port, with its own base directory and this pack in it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from workbench.pack import ROOT

PACK = "ComfyUI-DCI"
START_SECONDS = 180


def there_is_a_gpu() -> bool:
    """Tell whether PyTorch can compute on a GPU here; ComfyUI does not start without ``--cpu`` where it cannot."""
    import torch

    return torch.cuda.is_available()


class RunFailed(RuntimeError):
    """A prompt was refused or did not finish."""


class ComfyServer:
    """Run ``main.py`` while a ``with`` block lasts.

    Args:
        comfyui: ComfyUI's folder.
        python: the Python to run it with.
        base: a folder of its own for models, input, output and log.
        arguments: further arguments of ``main.py``.
        cpu: compute on the CPU even where there is a GPU.
    """

    def __init__(
        self, comfyui: Path, python: Path, base: Path, arguments: list[str] | None = None, cpu: bool = True
    ) -> None:
        self.comfyui = comfyui
        self.python = python
        self.base = base
        self.cpu = cpu
        self.arguments = [*(["--cpu"] if cpu else []), *(arguments or [])]
        self.port = _free_port()
        self.log = base / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ComfyServer:
        for name in ("custom_nodes", "models", "input", "output", "user", "temp"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        link = self.base / "custom_nodes" / PACK
        if not link.exists():
            link.symlink_to(ROOT, target_is_directory=True)
        command = [
            str(self.python),
            str(self.comfyui / "main.py"),
            "--port",
            str(self.port),
            "--base-directory",
            str(self.base),
            "--user-directory",
            str(self.base / "user"),
            "--database-url",
            "sqlite:///:memory:",
            "--disable-api-nodes",
            "--disable-all-custom-nodes",
            "--whitelist-custom-nodes",
            PACK,
            *self.arguments,
        ]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        environment["PYTHONPATH"] = without_checkout(environment.get("PYTHONPATH", ""))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.base, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def process_id(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def get(self, path: str) -> Any:
        """Return the JSON a path answers with."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.loads(answer.read())

    def get_bytes(self, path: str) -> bytes:
        """Return what a path answers with."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON; return the JSON answer, also of a refusal."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            content = error.read()
        return json.loads(content) if content else {}

    def run(
        self, prompt: dict[str, Any], on_event: Callable[[str, dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Queue an API-format prompt, follow it on the websocket, and return its history entry.

        Args:
            prompt: nodes by id.
            on_event: called with the type and data of each message, "text" for the progress text of a node.

        Raises:
            RunFailed: a node was refused or failed; the message is the host's.
        """
        entry = asyncio.run(self._follow(prompt, on_event or (lambda kind, data: None)))
        if entry["status"]["status_str"] != "success":
            raise RunFailed(_failure(entry))
        return entry

    def run_to_any_end(
        self, prompt: dict[str, Any], on_event: Callable[[str, dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Like ``run``, but a failed or interrupted run is returned too."""
        return asyncio.run(self._follow(prompt, on_event or (lambda kind, data: None)))

    async def _follow(self, prompt: dict[str, Any], on_event: Callable[[str, dict[str, Any]], None]) -> dict[str, Any]:
        import aiohttp

        client = uuid.uuid4().hex
        url = f"http://127.0.0.1:{self.port}/ws?clientId={client}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket_:
            answer = await asyncio.to_thread(self.post, "/prompt", {"prompt": prompt, "client_id": client})
            if "prompt_id" not in answer or answer.get("node_errors"):
                await asyncio.to_thread(self._withdraw, answer.get("prompt_id"))
                raise RunFailed(json.dumps(answer.get("node_errors") or answer, indent=1))
            job = answer["prompt_id"]
            async for message in socket_:
                if message.type == aiohttp.WSMsgType.BINARY:
                    _tell_text(message.data, on_event)
                    continue
                if message.type != aiohttp.WSMsgType.TEXT:
                    raise RunFailed(f"ComfyUI closed the connection; see {self.log}.")
                event = json.loads(message.data)
                data = event.get("data") or {}
                if data.get("prompt_id", job) != job:
                    continue
                on_event(event["type"], data)
                if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
                    break
        for _ in range(100):
            history = await asyncio.to_thread(self.get, f"/history/{job}")
            if job in history:
                return dict(history[job])
            await asyncio.sleep(0.1)
        raise RunFailed(f"The run left no history; see {self.log}.")

    def _withdraw(self, job: str | None) -> None:
        """Take back a prompt of which the host runs a part although another part was refused."""
        while job and any(job in entry for entries in self.get("/queue").values() for entry in entries):
            self.post("/queue", {"delete": [job]})
            self.post("/interrupt", {"prompt_id": job})
            time.sleep(0.2)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        for _ in range(START_SECONDS * 4):
            if self._process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
        raise RunFailed(f"ComfyUI did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def without_checkout(path: str) -> str:
    """Return a search path without ours: the host finds the pack among its custom nodes, or not at all."""
    return os.pathsep.join(entry for entry in path.split(os.pathsep) if entry != str(ROOT))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tell_text(data: bytes, on_event: Callable[[str, dict[str, Any]], None]) -> None:
    if int.from_bytes(data[:4], "big") == 3:  # the host's event number for progress text
        length = int.from_bytes(data[4:8], "big")
        node = data[8 : 8 + length].decode()
        on_event("text", {"node": node, "text": data[8 + length :].decode(errors="replace")})


def _failure(entry: dict[str, Any]) -> str:
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            return f"{data.get('node_type')}: {data.get('exception_message')}"
        if kind == "execution_interrupted":
            return f"interrupted in {data.get('node_type')}"
    return json.dumps(entry["status"])
