"""Engine ``deepl``: the official client, within the API's limits.

https://developers.deepl.com/docs/api-reference/translate. The key comes from the environment variable DEEPL_AUTH_KEY
alone; a key that ends in ``:fx`` goes to the Free endpoint.
"""

import json
import os
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any
from xml.sax.saxutils import escape

import deepl
import deepl.http_client
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from rmtransfer.errors import StudyError
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting, mark_spans

KEY = "DEEPL_AUTH_KEY"
LOST = "protected span lost or changed"

_TEXTS = 50  # in one request
_BYTES = 128 * 1024 - 4096  # of one request's body, less room for its other fields
_CHARACTERS = 8_000  # of one text: even if every one of them is escaped, twice, it fits
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
        settings = {k: v for k, v in options.items() if v is not None and k != "glossaries"}
        glossary = (options.get("glossaries") or {}).get(target)
        if glossary:
            settings["glossary"] = glossary
        if careful:
            settings["unit"] = "sentence"
        self.scope = Scope("deepl", settings, source, target)
        self._client: deepl.DeepLClient | None = None
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
        again._client, again._arguments = self._client, self._arguments
        return again

    def translate(self, prose: Sequence[str]) -> Iterator[dict[str, Translation]]:
        """See :class:`rmtransfer.translation.Engine`."""
        self._start()
        waiting = deque(_batches(prose))
        running: dict[Future[dict[str, Translation]], list[str]] = {}
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
                        answers = future.result()
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
                    if answers:
                        yield answers
        if failure is not None:
            raise self._explain(failure) from failure

    def quota(self) -> tuple[int, int] | None:
        """(characters used, limit) of the account's billing period; None where it has no limit.

        Raises:
            StudyError: no key, or the service refuses it.
        """
        try:
            usage = self._connect().get_usage()
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
            # The client's own retries ignore Retry-After; urllib3's, mounted below, honour it.
            deepl.http_client.max_network_retries = 0
            deepl.http_client.min_connection_timeout = self.timeout
            self._client = deepl.DeepLClient(key, server_url=self.options.get("server_url"))
            retry = Retry(
                total=self.attempts,
                status_forcelist=_RETRIED,
                allowed_methods=None,
                backoff_factor=self.backoff,
                backoff_max=120,
                backoff_jitter=self.backoff,
                raise_on_status=False,
            )
            for scheme in ("https://", "http://"):
                adapter = HTTPAdapter(pool_maxsize=self.requests_at_once, max_retries=retry)
                self._client._client._session.mount(scheme, adapter)
        return self._client

    def _start(self) -> None:
        """Connect, and check once that the account can do what is asked."""
        if self._arguments:
            return
        client = self._connect()
        try:
            sources = {language.code.upper() for language in client.get_source_languages()}
            targets = {language.code.upper(): language for language in client.get_target_languages()}
            usage = client.get_usage()
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
        if usage.character.limit_exceeded:
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

    def _ask(self, batch: list[str]) -> dict[str, Translation]:
        """One request. Answers are told apart by a mark of their own, not by their order."""
        assert self._client is not None
        results = self._client.translate_text(
            [_to_xml(text, number) for number, text in enumerate(batch)],
            split_sentences="nonewlines",
            preserve_formatting=True,
            tag_handling="xml",
            tag_handling_version="v2",
            ignore_tags=["x"],
            **self._arguments,
        )
        answers: dict[str, Translation] = {}
        for result in results if isinstance(results, list) else [results]:
            read = _from_xml(result.text, batch)
            if read is not None:
                number, text, flaws = read
                answers[batch[number]] = Translation(text, flaws, billed=result.billed_characters)
        return answers

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


def _to_xml(text: str, number: int) -> str:
    """Prose with its protected spans in tags that DeepL leaves alone. Tags are not billed."""
    inner = [
        f'<x i="{index}">{escape(piece)}</x>' if protected else escape(piece)
        for index, (piece, protected) in enumerate(mark_spans(text))
    ]
    return f'<s n="{number}">{"".join(inner)}</s>'


def _from_xml(answer: str, batch: Sequence[str]) -> tuple[int, str, tuple[str, ...]] | None:
    """(number in the batch, translation, flaws) of an answer; None if it cannot be told whose it is."""
    try:
        root = ElementTree.fromstring(answer.strip())
        number = int(root.get("n", ""))
    except (ElementTree.ParseError, ValueError):
        return None
    if root.tag != "s" or not 0 <= number < len(batch):
        return None
    wanted = sorted((str(i), piece) for i, (piece, protected) in enumerate(mark_spans(batch[number])) if protected)
    given = sorted((child.get("i", ""), "".join(child.itertext())) for child in root)
    return number, "".join(root.itertext()).strip(), () if given == wanted else (LOST,)
