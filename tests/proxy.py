"""A small proxy below a path, as nginx, Caddy or jupyter-server-proxy are one: HTTP and websockets, the Host kept or not."""

import asyncio
import threading
from contextlib import contextmanager

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

__all__ = ["proxied"]

HOP = {
    "connection",
    "upgrade",
    "transfer-encoding",
    "content-length",
    "keep-alive",
    "sec-websocket-key",
    "sec-websocket-version",
}
HOP |= {"sec-websocket-extensions"}


class _Upstream:
    """Where a request goes on to and with which headers; ``own`` is the proxy's port, ``seen`` what it was asked."""

    def __init__(self, below, *, strips, keeps_host):
        self.below, self.strips, self.keeps_host = below, strips, keeps_host
        self.own, self.port = None, None
        self.seen = []

    def request(self, scheme, request):
        self.seen.append(request.uri)
        path = request.uri.removeprefix(self.below) if self.strips else request.uri
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP}
        headers["X-Forwarded-Proto"] = "http"
        if not self.keeps_host:
            headers["X-Forwarded-Host"] = headers["Host"]
            headers["Host"] = f"127.0.0.1:{self.port}"
        asked = {"method": request.method, "body": request.body or None, "headers": headers}
        asked |= {"allow_nonstandard_methods": True, "follow_redirects": False, "decompress_response": False}
        return HTTPRequest(f"{scheme}://127.0.0.1:{self.port}{path}", request_timeout=120, **asked)


class _Http(RequestHandler):
    def initialize(self, upstream):
        self.upstream = upstream

    async def _pass(self, *_):
        answer = await AsyncHTTPClient().fetch(self.upstream.request("http", self.request), raise_error=False)
        self.set_status(answer.code)
        self._headers.clear()
        for key, value in answer.headers.get_all():
            if key.lower() not in HOP:
                self.add_header(key, value)
        self.finish(answer.body or None)

    get = post = _pass


class _Socket(WebSocketHandler):
    def initialize(self, upstream):
        self.upstream = upstream
        self.server = None

    async def prepare(self):
        asked = self.request.headers.get("Sec-WebSocket-Protocol", "").split(", ")
        request = self.upstream.request("ws", self.request)
        request.headers.pop("Sec-WebSocket-Protocol", None)
        self.server = await websocket_connect(request, subprotocols=asked, max_message_size=1 << 30)

    def check_origin(self, origin):
        return True

    def select_subprotocol(self, subprotocols):
        return self.server.selected_subprotocol

    def open(self, *_):
        self.pump = asyncio.ensure_future(self._pump())

    async def _pump(self):
        while (message := await self.server.read_message()) is not None:
            await self.write_message(message, binary=isinstance(message, bytes))
        self.close()

    async def on_message(self, message):
        await self.server.write_message(message, binary=isinstance(message, bytes))

    def on_close(self):
        if self.server is not None:
            self.server.close()


@contextmanager
def proxied(below, *, strips, keeps_host):
    """Hand on what is asked below a path; yield where to, whose ``port`` is to be set."""
    upstream = _Upstream(below, strips=strips, keeps_host=keeps_host)
    ready, end = threading.Event(), []

    async def serve():
        ended = asyncio.Event()
        end.append((asyncio.get_running_loop(), ended))
        routes = [(rf"{below}/ws", _Socket, {"upstream": upstream}), (rf"{below}/.*", _Http, {"upstream": upstream})]
        server = HTTPServer(
            Application([*routes, (r"/(.*)", _Nothing, {"upstream": upstream})], websocket_max_message_size=1 << 30)
        )
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        upstream.own = sockets[0].getsockname()[1]
        ready.set()
        await ended.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(30)
    try:
        yield upstream
    finally:
        loop, ended = end[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)


class _Nothing(RequestHandler):
    def initialize(self, upstream):
        self.upstream = upstream

    def get(self, *_):
        self.upstream.seen.append(self.request.uri)
        self.send_error(404)

    post = get
