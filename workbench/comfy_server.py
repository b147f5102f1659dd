"""A headless ComfyUI on a loopback port, with its own base directory and this pack in it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from urllib.error import URLError

from workbench.comfy_client import ComfyClient, RunFailed
from workbench.pack import ROOT

PACK = "ComfyUI-DCI"
START_SECONDS = 180


def there_is_a_gpu() -> bool:
    """Tell whether PyTorch can compute on a GPU here; ComfyUI does not start without ``--cpu`` where it cannot."""
    import torch

    return torch.cuda.is_available()


class ComfyServer(ComfyClient):
    """Run ``main.py`` while a ``with`` block lasts, and talk to it.

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
        port = _free_port()
        super().__init__(f"127.0.0.1:{port}")
        self.port = port
        self.comfyui = comfyui
        self.python = python
        self.base = base
        self.cpu = cpu
        self.arguments = [*(["--cpu"] if cpu else []), *(arguments or [])]
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

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        for _ in range(START_SECONDS * 4):
            if self._process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except (URLError, ConnectionError, TimeoutError):
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
