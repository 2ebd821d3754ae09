"""A local server that plays DeepL's API v2, for tests of the real client: its limits, its prices and its bad days.

In a test::

    with FakeDeepL(key="k") as server:
        server.faults = iter([Fault(status=429, headers={"Retry-After": "1"}), None, Fault(change=shuffled)])
        ...  # a client with server_url=server.url
        server.requests  # every translate request, in order of arrival

As a process: ``python tests/fake_deepl.py --port 0 --key K`` prints its URL and serves until it is killed.

What it takes from the service (https://developers.deepl.com): the key in the header, at most 50 texts and 128 KiB a
request, strict XML as in version 2 of tag handling, ``formality`` refused where a language has none, and a bill of the
source's code points outside tags. An entity counts as the one character that it stands for.
"""

import argparse
import itertools
import json
import socket
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SOURCES = {"DE": "German", "EN": "English", "ES": "Spanish", "IT": "Italian", "KO": "Korean", "ZH": "Chinese"}
TARGETS = {  # code: (name, whether it takes a formality)
    "DE": ("German", True),
    "EN-GB": ("English (British)", False),
    "EN-US": ("English (American)", False),
    "ES": ("Spanish", True),
    "IT": ("Italian", True),
    "KO": ("Korean", False),
    "ZH": ("Chinese (simplified)", False),
    "ZH-HANS": ("Chinese (simplified)", False),
    "ZH-HANT": ("Chinese (traditional)", False),
}
MAX_TEXTS = 50
MAX_BYTES = 128 * 1024

Translate = Callable[[str, str], str]  # (text node, target_lang) -> its translation


@dataclass
class Fault:
    """What goes wrong with one translate request. Without a status the request is answered.

    Attributes:
        status: refuse with this HTTP status.
        headers: of the refusal.
        hang: seconds before anything is sent.
        drop: close the connection without an answer.
        cut: break the connection in the middle of the answer.
        change: make other texts of the answer's texts; fewer or more of them too.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0
    drop: bool = False
    cut: bool = False
    change: Callable[[list[str]], list[str]] | None = None


@dataclass
class Request:
    """A translate request as it arrived, and the status it got (None: no answer, or not yet)."""

    time: float
    headers: dict[str, str]
    body: dict[str, Any]
    size: int
    status: int | None = None


# Changes of an answer's texts.


def without_last(texts: list[str]) -> list[str]:
    """One text too few."""
    return texts[:-1]


def shuffled(texts: list[str]) -> list[str]:
    """The same texts in another order."""
    return texts[1::2] + texts[::2][::-1]


def unmarked(texts: list[str]) -> list[str]:
    """Without the element that encloses each text."""
    return [text[text.index(">") + 1 : text.rindex("<")] for text in texts]


def damaged(texts: list[str]) -> list[str]:
    """With the contents of the first protected span changed."""
    return [text.replace("</x>", "?</x>", 1) for text in texts]


def from_request(number: int, fault: Fault) -> Iterator[Fault | None]:
    """Faults that begin with the given request, counted from 1, and never end."""
    return itertools.chain(itertools.repeat(None, number - 1), itertools.repeat(fault))


class FakeDeepL:
    """The server. It serves from construction until :meth:`close`; use it as a context manager.

    Attributes:
        faults: consumed one per translate request, in order of arrival; None is a request without a fault.
        translate: what becomes of every text node outside ignored tags.
        delay: seconds that each translate request takes.
        body_limit: bytes of a body, beyond which the answer is 413.
        character_count, character_limit: the account's usage; None is an account without a limit.
        requests: every translate request with a valid key.
        calls: (method, path) of every call, whatever became of it.
        most_at_once: how many translate requests were under way together, at most.
    """

    def __init__(self, key: str = "test-key", *, port: int = 0, log: Path | None = None) -> None:
        self.key = key
        self.faults: Iterator[Fault | None] = iter(())
        self.translate: Translate = _upper
        self.delay = 0.0
        self.body_limit = MAX_BYTES
        self.character_count = 0
        self.character_limit: int | None = 1_000_000_000
        self.requests: list[Request] = []
        self.calls: list[tuple[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._log = log
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> "FakeDeepL":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; requests that hang are let go."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def statuses(self) -> list[int | None]:
        """The statuses of all translate requests, in order of arrival."""
        return [request.status for request in self.requests]

    def languages(self, kind: str) -> list[dict[str, Any]]:
        """The answer of /v2/languages."""
        if kind == "target":
            return [{"language": k, "name": n, "supports_formality": formal} for k, (n, formal) in TARGETS.items()]
        return [{"language": code, "name": name} for code, name in SOURCES.items()]

    def usage(self) -> dict[str, int]:
        """The answer of /v2/usage."""
        usage = {"character_count": self.character_count, "character_limit": self.character_limit}
        return {name: value for name, value in usage.items() if value is not None}

    def arrived(self, request: Request) -> Fault | None:
        """Take a translate request down, and say what shall go wrong with it."""
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return next(self.faults, None)

    def left(self, request: Request) -> None:
        """The request's answer is ready to be sent."""
        with self._lock:
            self._at_once -= 1
            if self._log:
                # Appended whole under the lock; a reader never sees half a line of another request.
                with self._log.open("a", encoding="utf-8") as file:
                    entry = {"time": request.time, "status": request.status, "size": request.size, "body": request.body}
                    file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def pause(self, seconds: float) -> None:
        """Sleep, unless the server is closed."""
        if seconds:
            self._closing.wait(seconds)

    def answer(self, request: Request, change: Callable[[list[str]], list[str]] | None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a translate request, and its cost added to the account's."""
        body, texts = request.body, request.body.get("text")
        if request.size > self.body_limit:
            return 413, {"message": "Request Entity Too Large"}
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            return 400, {"message": "Parameter 'text' not specified."}
        if len(texts) > MAX_TEXTS:
            return 400, {"message": f"Too many texts: at most {MAX_TEXTS}."}
        source, target = body.get("source_lang", "EN").upper(), body.get("target_lang", "").upper()
        if source not in SOURCES:
            return 400, {"message": "Value for 'source_lang' not supported."}
        if target not in TARGETS:
            return 400, {"message": "Value for 'target_lang' not supported."}
        if body.get("formality") in ("more", "less") and not TARGETS[target][1]:
            return 400, {"message": "'formality' is not supported for given 'target_lang'."}
        try:
            translated = [self._translate(text, body, target) for text in texts]
        except ElementTree.ParseError as problem:
            return 400, {"message": f"Tag handling parsing failed, please check input: {problem}"}
        cost = sum(billed for _, billed in translated)
        with self._lock:
            if self.character_limit is not None and self.character_count + cost > self.character_limit:
                return 456, {"message": "Quota Exceeded"}
            self.character_count += cost
        entries = [{"detected_source_language": source, "text": text} for text, _ in translated]
        if body.get("show_billed_characters"):
            for entry, (_, billed) in zip(entries, translated, strict=True):
                entry["billed_characters"] = billed
        if change:
            changed = change([entry["text"] for entry in entries])
            spare = entries + [entries[-1]] * len(changed)
            entries = [{**entry, "text": text} for entry, text in zip(spare, changed, strict=False)]
        return 200, {"translations": entries}

    def _translate(self, text: str, body: Mapping[str, Any], target: str) -> tuple[str, int]:
        if body.get("tag_handling") != "xml":
            return self.translate(text, target), len(text)
        root = ElementTree.fromstring(text)
        billed = len("".join(root.itertext()))
        self._walk(root, set(body.get("ignore_tags", ())), target)
        return ElementTree.tostring(root, encoding="unicode"), billed

    def _walk(self, element: ElementTree.Element, ignored: set[str], target: str) -> None:
        if element.tag in ignored:
            return
        if element.text:
            element.text = self.translate(element.text, target)
        for child in element:
            self._walk(child, ignored, target)
            if child.tail:
                child.tail = self.translate(child.tail, target)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # idle connections that a client keeps open would hold it up
    request_queue_size = 64
    fake: FakeDeepL

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away, after its timeout, is what some tests are about."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        fake = self.server.fake
        # Read to the end whatever the answer: a client that cannot send its body never reads a refusal.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        fake.calls.append((self.command, path))
        if self.headers.get("Authorization") != f"DeepL-Auth-Key {fake.key}":
            self._send(403, {"message": "Forbidden"})
        elif path == "/v2/usage":
            self._send(200, fake.usage())
        elif path == "/v2/languages" and self.command == "GET":
            # The Python client sends the type as a form, in the body of its GET.
            asked = urllib.parse.parse_qs(query) | urllib.parse.parse_qs(body.decode())
            self._send(200, fake.languages(asked.get("type", ["source"])[0]))
        elif path == "/v2/translate" and self.command == "POST":
            self._translate(body)
        else:
            self._send(404, {"message": "Not Found"})

    def _translate(self, raw: bytes) -> None:
        fake = self.server.fake
        try:
            body = json.loads(raw)
        except ValueError:
            self._send(400, {"message": "Bad request. Reason: invalid JSON."})
            return
        request = Request(time.monotonic(), dict(self.headers), body, len(raw))
        fault = fake.arrived(request) or Fault()
        answer: dict[str, Any] = {"message": "a fault of the test's"}
        try:
            fake.pause(fake.delay + fault.hang)
            if fault.drop:
                pass
            elif fault.status is not None:
                request.status = fault.status
            else:
                request.status, answer = fake.answer(request, fault.change)
        finally:
            fake.left(request)  # before the answer is sent: the client's next request may come at once
        if fault.drop:
            self._hang_up()
        else:
            self._send(request.status or 500, answer, fault.headers, cut=fault.cut)

    def _send(self, status: int, body: object, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.wfile.flush()
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _upper(text: str, target: str) -> str:
    return text.upper()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as a process of its own until killed."""
    parser = argparse.ArgumentParser(description="A local server that plays DeepL's API v2.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--key", required=True, help="the only key it accepts")
    parser.add_argument("--requests-log", type=Path, help="append one JSON line per translate request")
    parser.add_argument("--character-limit", type=int, help="characters until the quota is used up")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each translate request takes")
    given = parser.parse_args(arguments)
    with FakeDeepL(given.key, port=given.port, log=given.requests_log) as server:
        server.delay = given.delay
        if given.character_limit is not None:
            server.character_limit = given.character_limit
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
