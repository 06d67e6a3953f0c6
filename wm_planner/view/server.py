"""The web server of the page: pictures and numbers out, buttons in, and who may press them."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
from aiohttp import WSMsgType, web

from wm_planner.errors import ConfigError
from wm_planner.view.buttons import Buttons, RefusedError
from wm_planner.view.node import ViewNode

STATIC = Path(__file__).parent / "static"
PUSH_S = 0.25  # between two looks at the board
MOST_BYTES = 16 << 20  # of an upload
BUTTON_HEADER = "X-WM-Planner"  # a page of another origin cannot add it without being asked first
HEADERS = {
    "Cache-Control": "no-store",
    # Nobody may put the page into a frame, where a click could be led to Start.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address that a server listens on."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Server:
    """Serves the page of a node from a thread of its own; use as a ``with`` block.

    On loopback a request must name this machine as its host: a foreign name that was made to lead
    here is refused. Elsewhere it must carry the token. What changes something must come from the
    page itself.

    Args:
        node: whose board is shown.
        host: address to listen on.
        port: 0 takes a free one.
        token: that the address must carry; empty: none.

    Attributes:
        url: of the page, with its token.

    Raises:
        ConfigError: nothing can listen there.
    """

    def __init__(self, node: ViewNode, host: str, port: int, token: str = "") -> None:
        self._node, self._board, self._token = node, node.board, token
        self._buttons: Buttons
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"--host {host} --port {port}: cannot be listened on ({reason}); choose another "
                "port, 0 takes a free one"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        query = f"?token={token}" if token else ""
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/{query}"
        self._local = is_loopback(host)
        self._png: dict[str, tuple[Any, bytes]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="view", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Server:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._buttons = Buttons(self._node)
        runner = web.AppRunner(self.app(), shutdown_timeout=0.5, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.SockSite(runner, self._socket).start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def app(self) -> web.Application:
        """The application with all its routes."""
        app = web.Application(middlewares=[self._guarded], client_max_size=MOST_BYTES)
        app.router.add_get("/", self._page)
        app.router.add_get("/live", self._live)
        app.router.add_get("/picture/{name}", self._picture)
        app.router.add_static("/static", STATIC)
        buttons: dict[str, Callable[[web.Request], Coroutine[Any, Any, str]]] = {
            "start": lambda _: self._buttons.start(),
            "stop": lambda _: self._buttons.stop(),
            "here": lambda _: self._buttons.take_here(),
            "clear": lambda _: self._buttons.clear_goal(),
            "reset": lambda _: self._buttons.reset(),
            "goal/{number:[0-9]{1,9}}": lambda request: self._buttons.set_goal(
                int(request.match_info["number"])
            ),
            "upload": self._upload,
        }
        for path, press in buttons.items():
            app.router.add_post(f"/{path}", self._button(press))
        return app

    # Who may ------------------------------------------------------------------------------

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what does not come from the page, and say as little as possible to the rest."""
        why = self._why_not(request)
        if why:
            return web.json_response({"ok": False, "text": why}, status=403, headers=HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _why_not(self, request: web.Request) -> str:
        """Why a request is refused; empty: it is not."""
        host, static = request.headers.get("Host", ""), request.path.startswith("/static/")
        name = urlsplit(f"//{host}").hostname or ""
        if self._local and not is_loopback(name):
            return f"the page is for this machine alone, and not for the host '{name}'"
        if self._token and not static:  # what is static holds nothing of the robot
            given = request.query.get("token", "")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return (
                    "the token is missing or wrong: open the address that the command has printed"
                )
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return f"a page of {origin} may not do this"
        if request.method != "GET" and BUTTON_HEADER not in request.headers:
            return f"the header {BUTTON_HEADER} is missing: only the page itself presses buttons"
        return ""

    # What there is ------------------------------------------------------------------------

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "index.html")

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        """A picture of the board as PNG, or, as 'goal-N', one of the shelf."""
        name = request.match_info["name"]
        head, _, number = name.partition("-")
        if head == "goal" and number.isdecimal():
            goal = self._board.goal(int(number))
            picture = None if goal is None else goal.picture
        else:
            picture = self._board.picture(name)
        if picture is None:
            raise web.HTTPNotFound
        known = self._png.get(name)
        if known is None or known[0] is not picture:
            png = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
            known = self._png[name] = picture, png.tobytes()
        return web.Response(body=known[1], content_type="image/png")

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """The board, each time that it has changed; takes 'stop'.

        A browser lets few requests be under way at once, so that Stop would wait behind others.
        """
        channel = web.WebSocketResponse(heartbeat=10.0)
        await channel.prepare(request)
        push = asyncio.ensure_future(self._push(channel))
        try:
            async for message in channel:
                if message.type == WSMsgType.TEXT and message.data == "stop":
                    _, answer = await self._pressed(self._buttons.stop())
                    await self._send(channel, json.dumps({"answer": answer}))
        finally:
            push.cancel()
        return channel

    async def _push(self, channel: web.WebSocketResponse) -> None:
        before = ""
        while not channel.closed:
            text = json.dumps(self._board.snapshot(), allow_nan=False)
            if text != before:
                await self._send(channel, text)
                before = text
            await asyncio.sleep(PUSH_S)

    @staticmethod
    async def _send(channel: web.WebSocketResponse, text: str) -> None:
        with suppress(ConnectionError):  # the page has been closed
            await channel.send_str(text)

    def _button(self, press: Callable[[web.Request], Coroutine[Any, Any, str]]) -> Handler:
        async def pressed(request: web.Request) -> web.StreamResponse:
            status, answer = await self._pressed(press(request))
            return web.json_response(answer, status=status)

        return pressed

    async def _pressed(self, press: Coroutine[Any, Any, str]) -> tuple[int, dict[str, Any]]:
        """Status and answer of a button; who closes the page does not take a stop back."""
        try:
            return 200, {"ok": True, "text": await asyncio.shield(asyncio.ensure_future(press))}
        except RefusedError as error:
            return 409, {"ok": False, "text": str(error)}
        except web.HTTPRequestEntityTooLarge:
            text = f"the files have more than {MOST_BYTES >> 20} MiB"
            return 413, {"ok": False, "text": text}

    async def _upload(self, request: web.Request) -> str:
        fields = (await request.post()).getall("file", [])
        given = [field for field in fields if isinstance(field, web.FileField)]
        files = {Path(field.filename).name: field.file.read() for field in given}
        return await self._buttons.take_files(files)
