"""The page's server: a table of contents in memory, behind a gate.

No path of a request reaches the file system: it is looked up in the table or is not there.
"""

from __future__ import annotations

import gzip
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mobileseg.demo.certificate import Certificate
from mobileseg.demo.gate import Gate
from mobileseg.errors import MobilesegError

LARGEST_POST = 4096
_DRAINED = 2**20
# A page keeps some connections open; more is no person with a few phones.
_CONNECTIONS = 64
_PATIENCE_S = 15
_NEXT_PORTS = 20
_PIECE = 2**16

_TEXTS = {
    400: "This is no request that is answered here.",
    403: "Open the address that the terminal shows; it works once.",
    404: "There is nothing here.",
    411: "Say how long it is.",
    413: "That is too much.",
    415: "JSON alone is taken here.",
    429: "Too many tries; wait a minute.",
}


@dataclass(frozen=True)
class Content:
    """What a path shows. `kept`: the browser may keep it, for the path names its version."""

    kind: str
    body: bytes
    kept: bool = False

    @cached_property
    def packed(self) -> bytes:
        """The body as gzip; WebAssembly is a third of itself, which a phone's radio notices."""
        return gzip.compress(self.body, compresslevel=4)


@dataclass(frozen=True)
class Site:
    """All that a server shows and takes.

    contents: by path. policy: the Content-Security-Policy. posts: by path, what takes the JSON and
    answers with JSON; a MobilesegError is the page's mistake. entered: told of a browser that came
    in: its address, and the entrance for the next one.
    """

    contents: Mapping[str, Content]
    policy: str
    posts: Mapping[str, Callable[[Any], Any]]
    entered: Callable[[str, str], None]


class Server(ThreadingHTTPServer):
    """One site on one address and port. Raises OSError where the port is taken."""

    daemon_threads = True
    # A port in use is an error, on every system.
    allow_reuse_address = sys.platform != "win32"

    def __init__(
        self, address: str, port: int, site: Site, gate: Gate, certificate: Certificate | None
    ) -> None:
        super().__init__((address, port), _Handler)
        self.site, self.gate = site, gate
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self.scheme, usual = ("http", 80) if certificate is None else ("https", 443)
        self.local = address == "127.0.0.1"
        names = [address, "localhost"] if self.local else [address]
        ending = "" if self.server_port == usual else f":{self.server_port}"
        # What browsers say that they ask; another name that leads here is an attack (rebinding).
        self.hosts = [f"{name}{ending}" for name in names]
        if certificate is not None:
            # The handshake waits for the connection's own thread, where it can hold up no other.
            self.socket = certificate.context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def server_bind(self) -> None:
        # HTTPServer's own also asks the network for this machine's name, which may take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    @property
    def entrance(self) -> str:
        """The address that lets one browser in."""
        return f"{self.scheme}://{self.hosts[0]}/?token={self.gate.token}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Browsers hang up as they like; what is ours is shown.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def open_server(
    address: str, port: int | None, site: Site, gate: Gate, certificate: Certificate | None = None
) -> Server:
    """Return a server that listens; with no port given, on 8760 or the next free one.

    Raises MobilesegError where the address or port cannot be had.
    """
    first = 8760 if port is None else port
    for each in range(first, first + (_NEXT_PORTS if port is None else 1)):
        try:
            return Server(address, each, site, gate, certificate)
        except (OSError, OverflowError) as error:
            said = error
    raise MobilesegError(
        f"--port {first}: cannot listen on {address} ({said}); give another --port, or 0 for any"
    )


def lan_address() -> str:
    """Return this machine's address in its network. Raises MobilesegError where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a way there and sends nothing; the address is of RFC 5737, nobody's.
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            raise MobilesegError(
                f"--lan: this machine is in no network ({error.strerror}); give its --address"
            ) from None
        return str(probe.getsockname()[0])


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        content = self.server.site.contents.get(path)
        if content is None:
            self._text(404)
            return
        self._send(200, content)

    def do_POST(self) -> None:
        # Whatever is wrong, what was sent and not read would be taken for the next request.
        self.close_connection = True
        path = self._path()
        if path is None:
            return
        take = self.server.site.posts.get(path)
        code = 404 if take is None else self._wrong_post()
        if take is None or code:
            # Who still sends would not hear the answer.
            self.rfile.read(min(max(self._length(), 0), _DRAINED))
            self._text(code)
            return
        try:
            answer, code = take(json.loads(self.rfile.read(self._length()))), 201
        except (ValueError, RecursionError):
            answer, code = {"error": "measurement: is no JSON"}, 400
        except MobilesegError as error:
            answer, code = {"error": str(error)}, 400
        self._send(code, Content("application/json", json.dumps(answer).encode()))

    def _path(self) -> str | None:
        """Return the path asked for; None where the request was answered: it may not come in."""
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._text(400)
            return None
        if not self._host():
            self._text(403)
            return None
        if self.server.gate.knows(self._session()):
            return parts.path
        given = parse_qs(parts.query).get("token", []) if parts.path == "/" else []
        if not given or self.command != "GET":
            self._text(403)
            return None
        session = self.server.gate.exchange(given[0])
        if session is None:
            self._text(429 if self.server.gate.locked else 403)
            return None
        self._cookie = session
        self.server.site.entered(self.client_address[0], self.server.entrance)
        return parts.path

    _cookie = ""

    def _host(self) -> str:
        """Return the Host if it is one of ours; empty where it is not."""
        said = self.headers.get_all("Host", [])
        host = str(said[0]).lower() if len(said) == 1 else ""
        return host if host in self.server.hosts else ""

    def _session(self) -> str:
        try:
            cookies = SimpleCookie(str(self.headers.get("Cookie", "")))
        except CookieError:
            return ""
        held = cookies.get(self._cookie_name())
        return held.value if held else ""

    def _cookie_name(self) -> str:
        # Cookies know no ports: two demos on one machine have two names.
        return f"mobileseg_{self.server.server_port}"

    def _length(self) -> int:
        given = str(self.headers.get("Content-Length", ""))
        return int(given) if given.isascii() and given.isdecimal() and len(given) < 16 else -1

    def _wrong_post(self) -> int:
        """Return the code for a post that is not taken; 0 where it is."""
        if self.headers.get("Origin") != f"{self.server.scheme}://{self._host()}":
            return 403
        if self.headers.get_content_type() != "application/json":
            return 415
        if self._length() < 0 or "Transfer-Encoding" in self.headers:
            return 411
        return 413 if self._length() > LARGEST_POST else 0

    def _text(self, code: int) -> None:
        self._send(code, Content("text/plain; charset=utf-8", _TEXTS[code].encode()))

    def _send(self, code: int, content: Content) -> None:
        body = content.body
        self.send_response(code)
        self.send_header("Content-Type", content.kind)
        if content.kept and self._wants_packed():
            body = content.packed
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        kept = "private, max-age=86400, immutable" if content.kept else "no-store"
        self.send_header("Cache-Control", kept)
        self.send_header("Content-Security-Policy", self.server.site.policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if self._cookie:
            secure = "; Secure" if self.server.scheme == "https" else ""
            rules = f"Path=/; HttpOnly; SameSite=Strict{secure}"
            self.send_header("Set-Cookie", f"{self._cookie_name()}={self._cookie}; {rules}")
            self._cookie = ""
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        # In pieces: the timeout is of one write, and a slow phone needs longer for all of it.
        for start in range(0, len(body), _PIECE):
            self.wfile.write(body[start : start + _PIECE])

    def _wants_packed(self) -> bool:
        """Whether packing pays: not on the way from this machine to itself."""
        return not self.server.local and "gzip" in str(self.headers.get("Accept-Encoding", ""))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what http.server itself refuses; nothing of the request is repeated."""
        del message, explain
        self.close_connection = True
        self._send(code, Content("text/plain; charset=utf-8", _TEXTS[400].encode()))

    def version_string(self) -> str:
        return "mobileseg"

    def log_message(self, *_: object) -> None:
        """Say nothing: a page asks for thirty files."""


_HEADERS = {
    # Together they isolate the page, without which there are no threads and no fine clock.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
