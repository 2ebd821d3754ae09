"""Engine ``deepl``: the official client, within the API's limits.

https://developers.deepl.com/docs/api-reference/translate. The key comes from the environment variable DEEPL_AUTH_KEY
alone; a key that ends in ``:fx`` goes to the Free endpoint.
"""

from __future__ import annotations

import copy
import json
import os
import threading
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import escape

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.options import Options, Text
from rmtransfer.translation import Machine
from rmtransfer.translation.quality import LOST
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting, mark_spans

if TYPE_CHECKING:
    import deepl
    from requests.adapters import HTTPAdapter

KEY = "DEEPL_AUTH_KEY"

_TEXTS = 50  # in one request
_BYTES = 128 * 1024 - 4096  # of one request's body, less room for its other fields
_CHARACTERS = 6_000  # of one text: it fits even if every other character is escaped and every other one is tagged
_ATTEMPTS = 9
_FIRST_PAUSE = 1.0  # seconds; doubles with each attempt
_PATIENCE = 60.0  # seconds for one answer
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


class DeepLOptions(Options):
    """How DeepL translates."""

    formality: Literal["default", "more", "less", "prefer_more", "prefer_less"] | None = None
    """sent only for target languages that have it"""
    glossaries: dict[str, str] = {}
    """target language to glossary id"""
    context: Text | None = None
    """text that every request is understood by; not billed"""
    model_type: Literal["quality_optimized", "prefer_quality_optimized", "latency_optimized"] | None = None
    """which of DeepL's models"""
    server_url: Text | None = None
    """another endpoint than the one that the key implies"""


class DeepL:
    """Translate with DeepL, several requests at a time."""

    Options = DeepLOptions
    paid = True
    runs_a_model = needs_section = False
    lock = "deepl"

    def __init__(self, options: DeepLOptions, source: str, target: str, machine: Machine) -> None:
        self.options, self.source, self.target = options, source, target
        self.requests_at_once = machine.requests_at_once
        self.splitting = Splitting("line", spans_inside=True, limit=_CHARACTERS)
        named = {"formality": options.formality, "context": options.context, "model_type": options.model_type}
        settings = {name: value for name, value in named.items() if value is not None}
        if glossary := options.glossaries.get(target):
            settings["glossary"] = glossary
        self.scope = Scope("deepl", settings, source, target)
        self._client: deepl.DeepLClient | None = None
        self._said = threading.local()  # the headers of the server's last answer, to each thread
        self._arguments: dict[str, Any] = {}

    @staticmethod
    def check(
        options: DeepLOptions, target: str, study_bases: Collection[str], source: str, root: Path
    ) -> Iterator[str]:
        """See :class:`rmtransfer.translation.Engine`. Which languages there are, the service says."""
        yield from ()

    @staticmethod
    def files(options: DeepLOptions) -> list[str]:
        """See :class:`rmtransfer.translation.Engine`."""
        return []

    def safer(self) -> DeepL | None:
        """The same, sentence by sentence and with the prose ending at protected spans."""
        if self.splitting.unit == "sentence":
            return None
        again = copy.copy(self)
        again.splitting = Splitting("sentence", spans_inside=False, limit=_CHARACTERS)
        again.scope = Scope("deepl", {**self.scope.settings, "unit": "sentence"}, self.source, self.target)
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
        import deepl

        try:
            usage = self._patiently(self._connect().get_usage)
        except deepl.DeepLException as problem:
            raise self._explain(problem) from problem
        if usage.character.count is None or usage.character.limit is None:
            return None
        return usage.character.count, usage.character.limit

    def _connect(self) -> deepl.DeepLClient:
        if self._client is None:
            import deepl

            key = os.environ.get(KEY, "").strip()
            if not key:
                raise StudyError(
                    f"{KEY} is not set; export {KEY}=<your key> (from https://www.deepl.com/your-account/keys) and run again"
                )
            # The client's own retries ignore Retry-After and start over with every request; ours are in _patiently.
            deepl.http_client.max_network_retries = 0
            deepl.http_client.min_connection_timeout = _PATIENCE
            self._client = deepl.DeepLClient(key, server_url=self.options.server_url)
            for scheme in ("https://", "http://"):
                self._client._client._session.mount(scheme, _adapter(self._said, self.requests_at_once))
        return self._client

    def _patiently(self, request: Callable[[], Any]) -> Any:
        """What a request to DeepL returns, sent again after 429, 529, 5xx and broken connections."""
        import deepl

        from rmtransfer.kit.http import PASSING, TransientError, patiently

        def once() -> Any:
            self._said.headers = {}
            try:
                return request()
            except deepl.DeepLException as problem:
                if isinstance(problem, deepl.ConnectionException) or problem.http_status_code in PASSING:
                    raise TransientError(problem, self._said.headers) from problem
                raise

        try:
            return patiently(once, attempts=_ATTEMPTS, first_pause=_FIRST_PAUSE)
        except TransientError as last:
            (problem,) = last.args
        raise problem

    def _start(self) -> None:
        """Connect, and check once that the account can do what is asked."""
        if self._arguments:
            return
        import deepl

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
        for name in ("formality", "context", "model_type", "glossary"):
            if name in self.scope.settings and (name != "formality" or targets[code].supports_formality):
                arguments[name] = self.scope.settings[name]
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
        import deepl

        from rmtransfer.kit.http import PASSING

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
        if isinstance(problem, deepl.ConnectionException) or status in PASSING:
            return StudyError(f"DeepL does not answer after {_ATTEMPTS} attempts ({problem}). {kept}, later")
        if isinstance(problem, deepl.DeepLException):
            return StudyError(f"DeepL refuses the request ({problem}); check translation.deepl. {kept}")
        return problem


def _adapter(said: threading.local, connections: int) -> HTTPAdapter:
    """One that notes what the server says of waiting, which the client keeps to itself."""
    from requests.adapters import HTTPAdapter

    class Noting(HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> Any:
            response = super().send(*args, **kwargs)
            said.headers = response.headers
            return response

    return Noting(pool_maxsize=connections)


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
