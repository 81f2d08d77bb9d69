"""HTTP listeners that can also fail: reset, stay silent, or be closed and opened again."""

from __future__ import annotations

import logging
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler

log = logging.getLogger(__name__)


@dataclass
class Request:
    method: str
    target: str  # path and query, as sent
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass
class Response:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class NoAnswer(Exception):
    """The connection ends without an answer."""

    def __init__(self, reset: bool = True, silent_until: threading.Event | None = None) -> None:
        super().__init__("no answer")
        self.reset = reset
        self.silent_until = silent_until


class Listener:
    """`answer` is called in a thread of its own for each connection."""

    def __init__(self, host: str, port: int, answer: Callable[[Request], Response]) -> None:
        self.host = host
        self.answer = answer
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self.port = port
        self.open()

    def open(self) -> None:
        with self._lock:
            if self._socket is not None:
                return
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((self.host, self.port))
            except OSError:
                listening.close()
                raise
            listening.listen(128)
            self.port = listening.getsockname()[1]
            self._socket = listening
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def close(self) -> None:
        """New connections are refused, the existing ones end; `open` takes the same port again."""
        with self._lock:
            listening, self._socket = self._socket, None
            connections = list(self._connections)
        if listening is not None:
            shutdown(listening)
            listening.close()
        for connection in connections:
            shutdown(connection)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, address = listening.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        try:
            _Handler(connection, address, self)  # type: ignore[arg-type]
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write for head and body
    disable_nagle_algorithm = True
    server: Listener  # type: ignore[assignment]

    def _any(self) -> None:
        body = self._body()
        try:
            response = self.server.answer(Request(self.command, self.path, self.headers, body))
        except NoAnswer as none:
            self._leave(none)
            return
        except Exception:
            log.exception("%s %s", self.command, self.path)
            response = Response(500, b"the lab itself failed; see its log\n")
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _any

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _leave(self, none: NoAnswer) -> None:
        self.close_connection = True
        if none.silent_until is not None:
            _hold(self.connection, none.silent_until)
        if none.reset:
            # Zero linger makes close() send RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, format: str, *args: object) -> None:
        pass


def _hold(connection: socket.socket, until: threading.Event) -> None:
    """Keep the connection, saying nothing, until the fault is lifted or the client gives up."""
    while not until.wait(0.1):
        readable, _, _ = select.select([connection], [], [], 0)
        if readable and not connection.recv(1, socket.MSG_PEEK):
            return


def shutdown(sock: socket.socket) -> None:
    """Unlike a close, this also wakes a thread that waits on the socket."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
