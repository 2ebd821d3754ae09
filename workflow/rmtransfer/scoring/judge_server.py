"""A judge behind an OpenAI-compatible server."""

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.http import PASSING, StoppedError, TransientError, patiently
from rmtransfer.scoring.judgements import Asked, Said

KEY = "RM_JUDGE_API_KEY"
_ATTEMPTS = 7
_FIRST_PAUSE = 1.0  # seconds; doubles with each attempt
_PATIENCE = (10.0, 300.0)  # seconds to connect, seconds for an answer
# Reasons to finish of a reply that had more to say, by the names of several servers, in lower case.
_CUT_OFF = ("length", "max_tokens", "content_filter", "safety", "abort")


class JudgeServer:
    """POST /chat/completions, the protocol of OpenAI (https://platform.openai.com/docs/api-reference/chat), vLLM and others.

    The API key comes from the environment variable RM_JUDGE_API_KEY and goes into the request alone.

    Args:
        server: ``url``, up to /v1; ``model``; ``extra``, more fields of the request, None for one of ours that is not sent.
        key: config key of the judge, for messages.
        system: system message before each prompt.
        longest_answer: the most tokens of a judgement.

    Raises:
        StudyError: the API key holds what no HTTP header can, such as a line break.
    """

    def __init__(
        self, server: Mapping[str, Any], key: str, system: str | None, longest_answer: int, requests_at_once: int
    ) -> None:
        self.url = server["url"].rstrip("/") + "/chat/completions"
        self.name, self.key, self.requests_at_once = server["model"], key, requests_at_once
        self.before = [{"role": "system", "content": system}] if system else []
        self.fields = {"max_tokens": longest_answer, "temperature": 0, **server["extra"]}
        # What the user raises where replies are cut off.
        self.limited_by = (
            "server.extra" if self.fields["max_tokens"] is None else f"max_new_tokens ({longest_answer:,})"
        )
        self._secret = os.environ.get(KEY, "").strip()
        if not (
            self._secret.isascii() and self._secret.isprintable()
        ):  # whoever sends it would print it in the message
            raise StudyError(f"{key}: {KEY} holds a line break or another character that no key has; set it again")
        self._stopped = threading.Event()
        self._session = requests.Session()
        self._session.auth = _Bearer(self._secret)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=requests_at_once))

    def settings(self) -> dict[str, Any]:
        """Everything that decides what it says, but for what it is asked. Its address does not: a server can move."""
        extra = dict(self.fields)
        ours = {"max_new_tokens": extra.pop("max_tokens"), "temperature": extra.pop("temperature")}
        return {"model": self.name, **ours, **({"extra": extra} if extra else {})}

    def ask(self, asked: Asked) -> Iterator[list[Said]]:
        """What the server says to prompts, in any order, one at a time.

        Raises:
            StudyError: the server refuses, answers in another form, or not at all however often it is asked. What came
                before, and what was under way at that moment, is given out first.
        """
        self._stopped.clear()
        problem: BaseException | None = None
        with ThreadPoolExecutor(self.requests_at_once) as pool:
            try:
                for done in as_completed([pool.submit(self._one, prompt, row) for prompt, row in asked.items()]):
                    if done.exception():
                        problem = problem or done.exception()
                        self._stopped.set()
                    elif (said := done.result()) is not None:
                        yield [said]
            finally:
                self._stopped.set()  # those that wait to be asked, or asked again, are not
        if problem is not None:
            raise problem

    def _one(self, prompt: str, row: str) -> Said | None:
        """One judgement; None if the others were stopped before it came."""
        try:
            response = patiently(
                lambda: self._post(prompt, row), attempts=_ATTEMPTS, first_pause=_FIRST_PAUSE, stopped=self._stopped
            )
        except StoppedError:
            return None
        except TransientError as trouble:
            raise self._failure(f"{trouble}, asked {_ATTEMPTS} times", row) from trouble
        return Said(prompt, *self._content(response, row))

    def _post(self, prompt: str, row: str) -> requests.Response:
        try:
            response = self._session.post(
                self.url,
                json={
                    **{name: value for name, value in self.fields.items() if value is not None},
                    "model": self.name,
                    "messages": [*self.before, {"role": "user", "content": prompt}],
                },
                timeout=_PATIENCE,
            )
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as problem:
            raise TransientError(f"does not answer ({type(problem).__name__})") from problem
        except requests.RequestException as problem:
            raise self._failure(f"cannot be asked: {problem}", row) from problem
        if response.status_code in PASSING:
            raise TransientError(self._answer(response), response.headers)
        return response

    def _content(self, response: requests.Response, row: str) -> tuple[str, str, bool | None]:
        """What it said, who it says that it is, and whether that was all; None if it does not say."""
        if response.status_code in (401, 403):
            raise self._failure(
                f"refuses the key (HTTP {response.status_code}); set the environment variable {KEY}", row
            )
        try:
            response.raise_for_status()
            body = response.json()
            choice = body["choices"][0]
            said = _text(choice["message"].get("content")), str(body.get("model") or self.name)
            reason = choice.get("finish_reason")
            if reason == "error":
                raise ValueError(reason)
        except (requests.RequestException, ValueError, LookupError, TypeError, AttributeError) as problem:
            raise self._failure(f"{self._answer(response)}, no chat completion", row) from problem
        # JSON can hold half a surrogate pair, where max_tokens ended an emoji; no file can.
        text, answered_by = (part.encode("utf-8", "replace").decode("utf-8") for part in said)
        return text, answered_by, None if reason is None else str(reason).lower() not in _CUT_OFF

    def _answer(self, response: requests.Response) -> str:
        # Before the cut, which could fall into the key.
        text = response.text.replace(self._secret, "***") if self._secret else response.text
        return f"answers HTTP {response.status_code} {text[:200]!r}"

    def _failure(self, trouble: str, row: str) -> StudyError:
        self._stopped.set()  # here, before this thread takes up the next prompt
        return StudyError(
            f"{self.key}: {self.url} {trouble} (asked for {row}); finished judgements are kept, run the same command again"
        )


def _text(content: Any) -> str:
    """A message's text. A model that thinks may send it in parts of several types, or nothing but its thoughts beside it."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return str(content or "")


class _Bearer(AuthBase):
    """As an auth object, so that no ~/.netrc takes its place."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.secret:
            request.headers["Authorization"] = f"Bearer {self.secret}"
        return request
