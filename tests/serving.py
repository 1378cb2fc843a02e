"""Servers in processes of their own, asked without a browser, with whatever headers a test likes."""

import http.client
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tornado.httpclient import HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

__all__ = ["Served", "alone"]


class Served:
    """What ``attnviz view`` serves with these arguments."""

    def __init__(self, *arguments):
        main = "from attnviz.cli import main; main()"
        command = [sys.executable, "-u", "-c", main, "view", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        self.first = self.process.stdout.readline()
        found = re.search(r"http://(?:\[(::1)\]|([\w.]+)):(\d+)(\S*)", self.first)
        self.host, self.port, self.below = (
            (found[1] or found[2], int(found[3]), found[4]) if found else (None, None, None)
        )

    def ask(self, path, method="GET", body=None, cookie="", **headers):
        """Ask, with further headers: ``Host``, ``Origin``, ``Sec_Fetch_Site``."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            sent = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
            connection.request(method, path, body, sent | {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def connect(self, path="/ws", **headers):
        """Shake hands for a websocket, and let go; raises ``HTTPClientError`` where it is refused."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        request = HTTPRequest(f"ws://{host}:{self.port}{path}", headers=sent)

        async def attempt():
            connection = await websocket_connect(request, subprotocols=["bokeh", "nothing"])
            connection.close()

        alone(attempt)

    def end(self):
        self.process.terminate()
        return self.process.communicate(timeout=20)


def alone(task):
    """Run a coroutine function in a thread of its own: a browser test that ran before leaves a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: IOLoop(make_current=False).run_sync(task)).result()
