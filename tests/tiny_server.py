"""A server without a model, for the tests of the load harness: ``python -m tests.tiny_server PORT``."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Tiny"]


class Tiny(BaseHTTPRequestHandler):
    """Answers every text with its length; refuses the text REFUSE."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Ready."""
        self._answer(200, True)

    def do_POST(self) -> None:
        """The length of the text, as if it were a label."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(0.002)
        text = str(body["text"])
        self._answer(503 if text == "REFUSE" else 200, [{"label": str(len(text)), "score": 1.0}])

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the log is for what goes wrong."""


class _Patient(ThreadingHTTPServer):
    request_queue_size = 256  # the default of 5 refuses connections that come at once


if __name__ == "__main__":
    _Patient(("127.0.0.1", int(sys.argv[1])), Tiny).serve_forever()
