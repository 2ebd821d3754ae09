"""Engine ``deepl``: the official client, within the API's limits.

https://developers.deepl.com/docs/api-reference/translate. The key comes from the environment variable DEEPL_AUTH_KEY
alone; a key that ends in ``:fx`` goes to the Free endpoint.
"""

import json
import os
import random
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from email.utils import parsedate_to_datetime
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

import deepl
import deepl.http_client
from requests.adapters import HTTPAdapter

from rmtransfer.kit.errors import StudyError
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting, mark_spans

KEY = "DEEPL_AUTH_KEY"
LOST = "protected span lost or changed"

_TEXTS = 50  # in one request
_BYTES = 128 * 1024 - 4096  # of one request's body, less room for its other fields
_CHARACTERS = 6_000  # of one text: it fits even if every other character is escaped and every other one is tagged
_LONGEST_WAIT = 120.0  # seconds, where the server names none
_RETRIED = (429, 500, 502, 503, 504, 529)
# Codes of DeepL's that are not the upper-case language subtag.
_TARGETS = {
    "en": "EN-US",
    "pt": "PT-BR",
    "zh": "ZH-HANS",
    "zh-Hant": "ZH-HANT",
    "zh-TW": "ZH-HANT",
    "en-GB": "EN-GB",
    "pt-PT": "PT-PT",
}


class DeepL:
    """Translate with DeepL, several requests at a time.

    Args:
        options: the config's ``translation.deepl``: ``formality``, ``glossaries`` (target to id), ``context``,
            ``model_type``, ``server_url``.
        requests_at_once: how many requests are under way.
        attempts: how often one request is repeated after 429, 529, 5xx and broken connections.
        timeout: seconds to wait for one answer.
        backoff: seconds before the second attempt, doubled for each further one, where the server names none.
    """

    lock = "deepl"

    def __init__(
        self,
        options: Mapping[str, Any],
        source: str,
        target: str,
        *,
        requests_at_once: int = 4,
        attempts: int = 8,
        timeout: float = 60.0,
        backoff: float = 1.0,
        careful: bool = False,
    ) -> None:
        self.options, self.source, self.target = options, source, target
        self.requests_at_once, self.attempts, self.timeout, self.backoff = requests_at_once, attempts, timeout, backoff
        self.splitting = Splitting("sentence" if careful else "line", spans_inside=not careful, limit=_CHARACTERS)
        settings = {k: options[k] for k in ("formality", "context", "model_type") if options.get(k)}
        glossary = (options.get("glossaries") or {}).get(target)
        if glossary:
            settings["glossary"] = glossary
        if careful:
            settings["unit"] = "sentence"
        self.scope = Scope("deepl", settings, source, target)
        self._client: deepl.DeepLClient | None = None
        self._asked = threading.local()  # what the server said last, to each thread
        self._arguments: dict[str, Any] = {}

    def safer(self) -> "DeepL | None":
        """The same, sentence by sentence and with the prose ending at protected spans."""
        if self.splitting.unit == "sentence":
            return None
        again = DeepL(
            self.options,
            self.source,
            self.target,
            requests_at_once=self.requests_at_once,
            attempts=self.attempts,
            timeout=self.timeout,
            backoff=self.backoff,
            careful=True,
        )
        again._client, again._arguments, again._asked = self._client, self._arguments, self._asked
        return again

    def translate(self, prose: Sequence[str]) -> Iterator[dict[str, Translation]]:
        """See :class:`rmtransfer.translation.Engine`."""
        self._start()
        waiting = deque(_batches(prose))
        running: dict[Future[tuple[dict[str, Translation], int]], list[str]] = {}
        owed = 0  # billed for answers that could not be used, added to the next that can
        failure: Exception | None = None
        with ThreadPoolExecutor(self.requests_at_once) as pool:
            while running or (waiting and failure is None):
                while waiting and failure is None and len(running) < self.requests_at_once:
                    batch = waiting.popleft()
                    running[pool.submit(self._ask, batch)] = batch
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    batch = running.pop(future)
                    try:
                        answers, lost = future.result()
                    except Exception as problem:
                        if getattr(problem, "http_status_code", None) == 413 and len(batch) > 1:
                            middle = len(batch) // 2
                            waiting.extend((batch[:middle], batch[middle:]))
                        else:
                            failure = failure or problem
                        continue
                    missing = [text for text in batch if text not in answers]
                    if missing and len(batch) == 1:
                        failure = failure or StudyError(
                            f"DeepL did not answer with a translation of {batch[0][:60]!r}; run again later"
                        )
                    elif missing:  # ask again, each alone: an answer that lacks its mark cannot be told from another's
                        waiting.extend([text] for text in missing)
                    owed += lost
                    if answers:
                        first = next(iter(answers))
                        answers[first] = answers[first]._replace(billed=answers[first].billed + owed)
                        owed = 0
                        yield answers
        if failure is not None:
            raise self._explain(failure) from failure

    def quota(self) -> tuple[int, int] | None:
        """(characters used, limit) of the account's billing period; None where it has no limit.

        Raises:
            StudyError: no key, or the service refuses it.
        """
        try:
            usage = self._patiently(self._connect().get_usage)
        except deepl.DeepLException as problem:
            raise self._explain(problem) from problem
        if usage.character.count is None or usage.character.limit is None:
            return None
        return usage.character.count, usage.character.limit

    def _connect(self) -> deepl.DeepLClient:
        if self._client is None:
            key = os.environ.get(KEY, "").strip()
            if not key:
                raise StudyError(
                    f"{KEY} is not set; export {KEY}=<your key> (from https://www.deepl.com/your-account/keys) and run again"
                )
            # The client's own retries ignore Retry-After and start over with every request; ours are in _patiently.
            deepl.http_client.max_network_retries = 0
            deepl.http_client.min_connection_timeout = self.timeout
            self._client = deepl.DeepLClient(key, server_url=self.options.get("server_url"))
            for scheme in ("https://", "http://"):
                self._client._client._session.mount(scheme, _Adapter(self._asked, self.requests_at_once))
        return self._client

    def _patiently(self, request: Callable[[], Any]) -> Any:
        """Repeat a request after 429, 529, 5xx and broken connections, when the server says or ever more slowly."""
        for attempt in range(self.attempts + 1):
            self._asked.wait = None
            try:
                return request()
            except deepl.DeepLException as problem:
                again = isinstance(problem, deepl.ConnectionException) or problem.http_status_code in _RETRIED
                if not again or attempt == self.attempts:
                    raise
            # Spread out, so that the requests that failed together do not come back together.
            pause = min(_LONGEST_WAIT, self.backoff * 2**attempt) * random.uniform(1, 1.25)
            time.sleep(pause if self._asked.wait is None else self._asked.wait)
        raise AssertionError  # not reached

    def _start(self) -> None:
        """Connect, and check once that the account can do what is asked."""
        if self._arguments:
            return
        client = self._connect()
        try:
            sources = {language.code.upper() for language in self._patiently(client.get_source_languages)}
            targets = {language.code.upper(): language for language in self._patiently(client.get_target_languages)}
            usage = self._patiently(client.get_usage)
        except deepl.DeepLException as problem:
            raise self._explain(problem) from problem
        code = _TARGETS.get(self.target, _TARGETS.get(self.target.split("-")[0], self.target.split("-")[0].upper()))
        if code not in targets:
            code = code.split("-")[0]
        source = self.source.split("-")[0].upper()
        for wanted, known, which in ((source, sources, "from"), (code, targets, "into")):
            if wanted not in known:
                raise StudyError(
                    f"DeepL does not translate {which} {wanted!r}; it knows {', '.join(sorted(known))}. Remove the language "
                    "from languages.targets, or give it another engine in translation.languages"
                )
        if usage.character.limit_reached:
            raise StudyError(
                f"the DeepL quota is used up ({usage.character.count:,} of {usage.character.limit:,} characters); wait for "
                "the next billing period or raise the limit, then run the same command again: nothing is lost"
            )
        arguments: dict[str, Any] = {"source_lang": source, "target_lang": code}
        if self.options.get("formality") and targets[code].supports_formality:
            arguments["formality"] = self.options["formality"]
        for key in ("context", "model_type"):
            if self.options.get(key):
                arguments[key] = self.options[key]
        if self.scope.settings.get("glossary"):
            arguments["glossary"] = self.scope.settings["glossary"]
        self._arguments = arguments

    def _ask(self, batch: list[str]) -> tuple[dict[str, Translation], int]:
        """One request: the answers that can be told apart, by a mark of their own and not by their order, and what was
        billed for the others."""
        client = self._connect()
        results = self._patiently(
            lambda: client.translate_text(
                [_to_xml(text, number) for number, text in enumerate(batch)],
                split_sentences="nonewlines",
                preserve_formatting=True,
                tag_handling="xml",
                tag_handling_version="v2",
                ignore_tags=["x"],
                **self._arguments,
            )
        )
        answers: dict[str, Translation] = {}
        lost = 0
        for result in results:
            read = _from_xml(result.text, batch)
            if read is None:
                lost += result.billed_characters
            else:
                number, text, flaws = read
                answers[batch[number]] = Translation(text, flaws, billed=result.billed_characters)
        return answers, lost

    def _explain(self, problem: Exception) -> Exception:
        status = getattr(problem, "http_status_code", None)
        kept = "Finished batches are kept; the same command goes on from there"
        if isinstance(problem, deepl.AuthorizationException):
            return StudyError(f"DeepL refuses the key in {KEY} (403); check it, and that the account is active. {kept}")
        if isinstance(problem, deepl.QuotaExceededException):
            return StudyError(
                f"the DeepL quota is used up (456). {kept}: wait for the next billing period or raise the limit, then run again"
            )
        if status == 413:
            return StudyError(f"DeepL refuses even a single text as too large (413). {kept}")
        if isinstance(problem, deepl.ConnectionException) or (status in _RETRIED):
            return StudyError(f"DeepL does not answer after {self.attempts + 1} attempts ({problem}). {kept}, later")
        if isinstance(problem, deepl.DeepLException):
            return StudyError(f"DeepL refuses the request ({problem}); check translation.deepl. {kept}")
        return problem


class _Adapter(HTTPAdapter):
    """Notes what the server says of waiting, which the client keeps to itself."""

    def __init__(self, asked: threading.local, connections: int) -> None:
        super().__init__(pool_maxsize=connections)
        self.asked = asked

    def send(self, *args: Any, **kwargs: Any) -> Any:
        response = super().send(*args, **kwargs)
        self.asked.wait = _seconds(response.headers.get("Retry-After"))
        return response


def _batches(prose: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in prose:
        length = len(json.dumps(_to_xml(text, _TEXTS))) + 2
        if batch and (len(batch) == _TEXTS or size + length > _BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


def _seconds(header: str | None) -> float | None:
    """Retry-After (RFC 9110, section 10.2.3) as seconds from now."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _pieces(prose: str) -> list[tuple[bool, str]]:
    """(protected, text), neighbours of a kind joined."""
    marked = groupby(mark_spans(prose), key=lambda piece: piece[1])
    return [(protected, "".join(text for text, _ in these)) for protected, these in marked]


def _to_xml(text: str, number: int) -> str:
    """Prose with its protected spans in tags that DeepL leaves alone. Tags are not billed."""
    inner = [
        f'<x i="{index}">{escape(piece)}</x>' if protected else escape(piece)
        for index, (protected, piece) in enumerate(_pieces(text))
    ]
    return f'<s n="{number}">{"".join(inner)}</s>'


def _from_xml(answer: str, batch: Sequence[str]) -> tuple[int, str, tuple[str, ...]] | None:
    """(number in the batch, translation, flaws) of an answer; None if it cannot be told whose it is."""
    root = _parsed(answer.strip())
    if (root is None or root.tag != "s") and len(batch) == 1:
        root = _parsed(f'<s n="0">{answer}</s>')  # the only answer needs no mark
    if root is None or root.tag != "s" or not root.get("n", "").isdecimal() or int(root.get("n", "")) >= len(batch):
        return None
    number = int(root.get("n", ""))
    wanted = sorted((str(i), piece) for i, (protected, piece) in enumerate(_pieces(batch[number])) if protected)
    given = sorted((child.get("i", ""), "".join(child.itertext())) for child in root)
    return number, "".join(root.itertext()).strip(), () if given == wanted else (LOST,)


def _parsed(text: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
