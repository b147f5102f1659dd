"""ComfyUI's real frontend in a headless Chromium, to take pictures of what a user sees. No test needs it."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from PIL import Image

WINDOW_PX = (1600, 1400)
START_SECONDS = 180
LOOK_SECONDS = 0.5
LEAST_WIDTH_PX = 240  # of a node, so that its whole name is seen
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
READY = """Boolean(window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length
  && !document.getElementById("splash-loader"))"""
SHOW = """(([name, values, x, y, least]) => {
  const before = app.graph.last_node_id;
  app.graph.clear();
  app.graph.last_node_id = before;  // the frontend keeps what the widgets of an id held
  const node = LiteGraph.createNode(name);
  node.pos = [x, y];
  app.graph.add(node);
  for (const widget of node.widgets ?? []) if (widget.name in values) widget.value = values[widget.name];
  node.setSize([Math.max(node.size[0], least), node.size[1]]);
  app.canvas.deselectAll?.();
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [0, 0];
  app.canvas.setDirty(true, true);
  return [node.size[0], node.size[1]];
})(%s)"""


class Frontend:
    """A page of ComfyUI while an ``async with`` block lasts.

    Args:
        address: of a running server, such as "http://127.0.0.1:8188".
        folder: an empty one for what the browser keeps.
        sharpness: pixels of a picture for each of the page.
    """

    def __init__(self, address: str, folder: Path, sharpness: float = 1.0) -> None:
        self.address = address
        self.folder = folder
        self.sharpness = sharpness
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._page: Any = None  # a web socket of aiohttp, whose class is generic in some releases only

    async def __aenter__(self) -> Frontend:
        program = next(filter(None, map(shutil.which, CHROMIUM)), None)
        if program is None:
            raise SystemExit(f"None of {', '.join(CHROMIUM)} is installed; pictures of nodes need one.")
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
        command = [program, *options, f"--user-data-dir={self.folder}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._session = aiohttp.ClientSession()
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def node_picture(
        self, name: str, values: Mapping[str, Any] | None = None, margin_px: int = 10
    ) -> Image.Image:
        """Return the picture of a fresh node.

        Args:
            name: its id.
            values: of widgets, by their names; the others are as they come.
            margin_px: of the canvas around it.
        """
        left, top, title = 420, 160, 56  # the title stands above the place of a node, and the pack's name above it
        width, height = await self.value_of(SHOW % json.dumps([name, dict(values or {}), left, top, LEAST_WIDTH_PX]))
        await asyncio.sleep(LOOK_SECONDS)
        return await self.picture(
            left - margin_px, top - title - margin_px, width + 2 * margin_px, height + title + 2 * margin_px
        )

    async def value_of(self, script: str) -> Any:
        """Return what a script gives in the page, awaited."""
        answer = await self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"The page threw {json.dumps(answer['exceptionDetails'])[:500]}")
        return answer["result"].get("value")

    async def picture(self, x: float, y: float, width: float, height: float) -> Image.Image:
        """Return the picture of a part of the page, in its pixels times the sharpness."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        answer = await self._ask("Page.captureScreenshot", format="png", clip=clip)
        return Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")

    async def _open(self) -> None:
        assert self._session is not None
        port = self.folder / "DevToolsActivePort"

        async def is_listening() -> bool:
            return port.exists() and len(port.read_text().split()) == 2

        await _until(is_listening, "The browser does not start")
        number = port.read_text().split()[0]
        async with self._session.get(f"http://127.0.0.1:{number}/json/list") as answer:
            page = next(entry for entry in await answer.json() if entry["type"] == "page")
        self._page = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        width, height = WINDOW_PX
        size = {"width": width, "height": height, "deviceScaleFactor": self.sharpness, "mobile": False}
        await self._ask("Emulation.setDeviceMetricsOverride", **size)
        await self._ask("Page.navigate", url=self.address)
        await _until(lambda: self.value_of(READY), f"{self.address} shows no canvas")

    async def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        await self._page.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._page.receive_json()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    async def _close(self) -> None:
        if self._page is not None:
            await self._page.close()
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


async def _until(is_so: Callable[[], Awaitable[bool]], else_: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not await is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{else_} within {START_SECONDS} s.")
        await asyncio.sleep(LOOK_SECONDS)
