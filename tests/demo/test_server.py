"""The demo's server as an attacker meets it, and as a browser does."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from mobileseg.demo.certificate import self_signed
from mobileseg.demo.gate import WRONG_TRIES, Gate
from mobileseg.demo.server import LARGEST_POST, Content, Server, Site, open_server
from mobileseg.errors import MobilesegError

PAGE = b"<!doctype html>the page"
SCRIPT = b"let a = 1;" * 100
BIG = 2**23


@dataclass
class Served:
    """A server that runs, what it was told, and who came in."""

    server: Server
    taken: list[Any] = field(default_factory=list)
    entered: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return self.server.hosts[0]

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Ask as a browser does; `Host` and all else may be given."""
        line = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        try:
            line.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            given = {"Host": self.host} | {k.replace("_", "-"): v for k, v in headers.items()}
            if body is not None:
                given.setdefault("Content-Length", str(len(body)))
            for name, value in given.items():
                line.putheader(name, value)
            line.endheaders(body)
            answer = line.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            line.close()

    def enter(self) -> str:
        """Come in by the token; return the cookie."""
        _, headers, _ = self.request("GET", f"/?token={self.server.gate.token}")
        return headers["Set-Cookie"].split(";")[0]

    def post(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        given = {"Content_Type": "application/json", "Origin": f"http://{self.host}"} | headers
        status, _, answer = self.request("POST", "/measurements", body, **given)
        return status, answer


@pytest.fixture
def served() -> Iterator[Served]:
    gate = Gate()
    taken: list[Any] = []
    entered: list[str] = []

    def note(address: str, entrance: str) -> None:
        assert entrance.endswith(gate.token)
        entered.append(address)

    def take(data: Any) -> Any:
        if data == "wrong":
            raise MobilesegError("measurement: wrong")
        taken.append(data)
        return {"taken": len(taken)}

    contents = {
        "/": Content("text/html", PAGE),
        "/runtime/a.js": Content("text/javascript", SCRIPT, kept=True),
        "/big": Content("application/wasm", bytes(BIG)),
    }
    site = Site(contents, "default-src 'none'", {"/measurements": take}, note)
    server = open_server("127.0.0.1", 0, site, gate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Served(server, taken, entered)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_token_lets_one_browser_in(served: Served) -> None:
    entrance = served.server.entrance.removeprefix(f"http://{served.host}")
    status, headers, body = served.request("GET", entrance)
    assert (status, body) == (200, PAGE)
    rules = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(rules)
    assert served.request("GET", "/", Cookie=rules[0])[2] == PAGE
    # The used one is void for everybody else, and another one counts.
    assert served.request("GET", entrance)[0] == 403
    assert served.request("GET", entrance, Cookie=rules[0])[0] == 200
    assert served.server.entrance.removeprefix(f"http://{served.host}") != entrance
    assert served.entered == ["127.0.0.1"]


@pytest.mark.parametrize(
    "path",
    ["/", "/?token=", "/?token=%00", "/?token=wrong", "/?token=%F0%9F%94%91", "/runtime/a.js"],
)
def test_without_the_token_nothing_is_shown(served: Served, path: str) -> None:
    status, headers, body = served.request("GET", path)
    assert status == 403
    assert "token" not in body.decode() and "Set-Cookie" not in headers
    assert served.request("GET", path, Cookie="mobileseg_1=x; bad=")[0] == 403
    assert served.entered == []


def test_a_token_opens_the_page_alone(served: Served) -> None:
    token = served.server.gate.token
    assert served.request("GET", f"/runtime/a.js?token={token}")[0] == 403
    assert served.post(b"{}")[0] == 403
    assert served.request("POST", f"/?token={token}", b"{}")[0] == 403
    assert served.server.gate.token == token


def test_tries_are_limited(served: Served) -> None:
    cookie = served.enter()
    codes = [served.request("GET", f"/?token={n}")[0] for n in range(WRONG_TRIES + 1)]
    assert codes[0] == 403 and codes[-1] == 429
    # The right token does not help now; whoever is in stays in.
    assert served.request("GET", f"/?token={served.server.gate.token}")[0] == 429
    assert served.request("GET", "/", Cookie=cookie)[0] == 200


def test_wrong_tries_are_forgotten() -> None:
    now = [0.0]
    gate = Gate(lambda: now[0])
    for _ in range(WRONG_TRIES):
        assert gate.exchange("wrong") is None
    assert gate.locked and gate.exchange(gate.token) is None
    now[0] = 61.0
    session = gate.exchange(gate.token)
    assert session is not None and gate.knows(session) and not gate.knows("")


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/runtime/../../../etc/passwd",
        "/runtime/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/runtime/a.js/",
        "/RUNTIME/A.JS",
        "/runtime/a.js%00",
        "http://[",
        "C:\\x",
    ],
)
def test_paths_lead_nowhere(served: Served, path: str) -> None:
    status, _, body = served.request("GET", path, Cookie=served.enter())
    assert status in {400, 404} and len(body) < 60


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "evil.example:80", ""])
def test_another_name_that_leads_here_is_refused(served: Served, host: str) -> None:
    cookie = served.enter()
    assert served.request("GET", "/", Cookie=cookie, Host=host)[0] == 403
    token = served.server.gate.token
    assert served.request("GET", f"/?token={token}", Host=host)[0] == 403
    assert served.server.gate.token == token


def test_posts(served: Served) -> None:
    cookie = served.enter()
    assert served.post(b'{"a": 1}', Cookie=cookie) == (201, b'{"taken": 1}')
    for body in (b"{", b"\xff\xfe", b"[" * LARGEST_POST):
        status, said = served.post(body, Cookie=cookie)
        assert status == 400 and b"is no JSON" in said
    status, said = served.post(b'"wrong"', Cookie=cookie)
    assert (status, json.loads(said)) == (400, {"error": "measurement: wrong"})
    assert served.taken == [{"a": 1}]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": "²"}, 411),
        ({"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_posts_of_other_pages_are_refused(
    served: Served, headers: dict[str, str], code: int
) -> None:
    assert served.post(b"{}", Cookie=served.enter(), **headers)[0] == code
    assert not served.taken


@pytest.mark.parametrize("size", [LARGEST_POST + 1, 200_000])
def test_huge_posts_are_refused(served: Served, size: int) -> None:
    assert served.post(b" " * size, Cookie=served.enter())[0] == 413
    assert not served.taken


def test_headers_isolate_the_page(served: Served) -> None:
    cookie = served.enter()
    for path, kept in (("/", "no-store"), ("/runtime/a.js", "private, max-age=86400, immutable")):
        _, headers, _ = served.request("GET", path, Cookie=cookie)
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Content-Security-Policy"] == "default-src 'none'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == kept
        assert headers["Server"] == "mobileseg"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "<script>"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    status, _, body = served.request(method, "/")
    assert status == 501 and method.encode() not in body


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nCookie: \xff\xfe=\x00\r\n\r\n",
    ],
)
def test_garbage_is_answered_or_not_and_harms_nothing(
    served: Served, raw: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", served.server.server_port), timeout=10) as line:
        line.sendall(raw)
        line.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := line.recv(65536):
                answer += part
    assert PAGE not in answer
    assert served.request("GET", "/", Cookie=served.enter())[0] == 200
    assert capsys.readouterr().err == ""


def test_a_phone_gets_it_packed(served: Served) -> None:
    cookie = served.enter()
    for local, encoding in ((True, None), (False, "gzip")):
        served.server.local = local
        given = {"Cookie": cookie, "Accept_Encoding": "gzip, br"}
        _, headers, body = served.request("GET", "/runtime/a.js", **given)
        assert headers["Content-Encoding"] == encoding
        assert (gzip.decompress(body) if encoding else body) == SCRIPT
    assert "Content-Encoding" not in served.request("GET", "/", **given)[1]


def test_a_slow_phone_gets_all_of_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.server.RequestHandlerClass, "timeout", 0.5)
    cookie = served.enter()
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        line.settimeout(10)
        line.connect(("127.0.0.1", served.server.server_port))
        request = f"GET /big HTTP/1.1\r\nHost: {served.host}\r\nCookie: {cookie}\r\n\r\n"
        line.sendall(request.encode())
        with line.makefile("rb") as answer:
            got = 0
            # Longer than the timeout in all, though never without a sign of life.
            for _ in range(8):
                time.sleep(0.15)
                got += len(answer.read(BIG // 8))
    # The headers came first.
    assert got == BIG


def test_a_port_in_use_is_an_error_or_the_next_is_taken(served: Served) -> None:
    site, gate, port = served.server.site, served.server.gate, served.server.server_port
    with pytest.raises(MobilesegError, match="cannot listen on 127"):
        open_server("127.0.0.1", port, site, gate)
    first = open_server("127.0.0.1", None, site, gate)
    second = open_server("127.0.0.1", None, site, gate)
    assert first.server_port < second.server_port
    first.server_close()
    second.server_close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_https_with_a_certificate_of_its_own(served: Served) -> None:
    certificate, gate = self_signed("127.0.0.1"), served.server.gate
    server = open_server("127.0.0.1", 0, served.server.site, gate, certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        # One hangs up amid the handshake; the others are served.
        socket.create_connection(("127.0.0.1", server.server_port)).close()
        pem = ssl.get_server_certificate(("127.0.0.1", server.server_port), timeout=10)
        trusting = ssl.create_default_context(cadata=pem)
        line = http.client.HTTPSConnection(
            "127.0.0.1", server.server_port, timeout=10, context=trusting
        )
        line.request("GET", server.entrance.removeprefix(f"https://{server.hosts[0]}"))
        answer = line.getresponse()
        assert answer.read() == PAGE
        assert "; Secure" in answer.headers["Set-Cookie"]
        line.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert certificate.fingerprint.replace(":", "").lower() == digest
