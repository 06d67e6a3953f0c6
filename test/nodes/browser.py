"""A real browser without a window, driven by the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S = 120.0


def find_browser() -> str | None:
    """Path of an installed Chromium; None: there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of one browser; use as an ``async with`` block.

    Args:
        profile: empty directory of the browser's own.
        width, height: of the page, pixels.

    Attributes:
        complaints: what the page's scripts have raised, and what its policy has blocked.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        self._profile, self._size = profile, f"--window-size={width},{height}"
        self._ids = 0
        self._answers: dict[int, asyncio.Future] = {}
        self.complaints: list[str] = []

    async def __aenter__(self) -> Browser:
        program = find_browser()
        assert program is not None
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = await asyncio.create_subprocess_exec(
            *(program, "--headless=new", "--remote-debugging-port=0", "--disable-gpu"),
            *("--no-first-run", "--disable-dev-shm-usage", self._size, *sandbox),
            *(f"--user-data-dir={self._profile}", "about:blank"),
            stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        self._session = aiohttp.ClientSession()
        port = self._profile / "DevToolsActivePort"
        await _until(lambda: port.is_file() and len(port.read_text().split()) == 2, "the browser")
        number, path = port.read_text().split()
        self._channel = await self._session.ws_connect(
            f"ws://127.0.0.1:{number}{path}", max_msg_size=0
        )
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await self._session.close()
        self._process.terminate()
        await self._process.wait()

    async def open(self, url: str) -> None:
        """Open a page."""
        made = await self._send("Target.createTarget", url="about:blank")
        attached = await self._send(
            "Target.attachToTarget", targetId=made["targetId"], flatten=True
        )
        self._page = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)

    async def send(self, method: str, **parameters: Any) -> Any:
        """A command to the page."""
        return await self._send(method, self._page, **parameters)

    async def ask(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page; None while the page is loading."""
        answer = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, expression: str, what: str, timeout_s: float = START_S) -> Any:
        """Ask over and over until the value is true, and return it."""
        deadline_s = time.monotonic() + timeout_s
        while not (value := await self.ask(expression)):
            shown = await self.ask("document.body && document.body.innerText")
            assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s} s\n{shown}"
            await asyncio.sleep(0.1)
        return value

    async def click(self, selector: str) -> None:
        """Click as a mouse does: what is covered or outside of the window is not hit."""
        place = await self.ask(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    async def key(self, name: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("rawKeyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code
            )

    async def picture(self, file: Path) -> None:
        """Write what the whole page shows as PNG."""
        shot = await self.send("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    async def _send(self, method: str, session: str = "", **parameters: Any) -> Any:
        self._ids += 1
        answer = self._answers[self._ids] = asyncio.get_running_loop().create_future()
        message = {"id": self._ids, "method": method, "params": parameters}
        await self._channel.send_json(message | ({"sessionId": session} if session else {}))
        return await asyncio.wait_for(answer, START_S)

    async def _read(self) -> None:
        async for message in self._channel:
            told = json.loads(message.data)
            if "id" in told:
                answer = self._answers.pop(told["id"])
                if "error" in told:
                    answer.set_exception(RuntimeError(str(told["error"])))
                else:
                    answer.set_result(told["result"])
            elif told["method"] == "Runtime.exceptionThrown":
                self.complaints.append(str(told["params"]["exceptionDetails"]))
            elif told["method"] == "Log.entryAdded":
                self.complaints.append(str(told["params"]["entry"]["text"]))


async def _until(condition: Any, what: str) -> None:
    deadline_s = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: not within {START_S} s"
        await asyncio.sleep(0.05)
