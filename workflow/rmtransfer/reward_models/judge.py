"""Generative judges: a language model, on this machine or behind an OpenAI-compatible server, says which answer is better.

Every judgement is written to a file as soon as it is there: an interrupted run resumes, and none is paid for twice.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import requests
import torch
from requests.adapters import HTTPAdapter
from transformers import AutoModelForCausalLM, GenerationConfig
from urllib3.util import Retry

from rmtransfer import chat
from rmtransfer.batching import left_padded, length_batches
from rmtransfer.corpus import Message, Row
from rmtransfer.errors import StudyError
from rmtransfer.hidden_states import SIDES
from rmtransfer.manifest import digest_of
from rmtransfer.progress import Progress
from rmtransfer.reward_models.model import Encoder, Scores, identity, load, loading_settings

KEY = "RM_JUDGE_API_KEY"
PROMPTS = {
    "pairwise": (
        "Two assistants answered the same user. Judge which answer serves the user better: is it helpful, correct, "
        "harmless, and does it do what was asked? The order of the answers and their length must not matter. The texts "
        "may be in any language; judge them in that language.\n\n"
        "[User]\n{prompt}\n\n[Answer A]\n{answer_a}\n\n[Answer B]\n{answer_b}\n\n"
        "Give a short reason, then your verdict in exactly this form: [[A]] if answer A is better, [[B]] if answer B is "
        "better, [[C]] if they are equally good."
    ),
    "rating": (
        "Rate how well an assistant's answer serves the user: is it helpful, correct, harmless, and does it do what was "
        "asked? The texts may be in any language; judge them in that language.\n\n"
        "[User]\n{prompt}\n\n[Answer]\n{answer}\n\n"
        "Give a short reason, then your rating from 1 (useless or harmful) to 10 (could not be better) in exactly this "
        "form: [[5]]."
    ),
}
_VERDICTS = {"pairwise": re.compile(r"\[\[([ABC])\]\]"), "rating": re.compile(r"\[\[(10|[1-9])\]\]")}
_ATTEMPTS = 6
_PATIENCE = 120  # seconds for one answer of a server
_DECODING_FACTOR = 4


class Judge:
    """A language model that is asked.

    ``pairwise``: both orders of a pair; an answer's reward is the share of orders that it won, half of one for a tie, so
    that a judge which only follows the order is right about nothing. ``rating``: 1 to 10 for each answer by itself. What
    holds no verdict in the form asked for wins nothing (pairwise) or rates 0, below the scale; either way it is counted.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        where: str,
        store: Path,
        tokens_per_batch: int,
        requests_at_once: int,
        device: torch.device,
    ) -> None:
        self.spec, self.where, self.mode = spec, where, spec["mode"]
        self.prompt = spec.get("prompt", PROMPTS[self.mode])
        self.longest_answer = spec.get("max_new_tokens", 512)
        self.ask: Callable[[Sequence[str], Progress], Iterator[tuple[str, str]]]
        if "server" in spec:
            server = _Server(spec["server"], where, self.longest_answer, requests_at_once)
            self.ask = server.ask
            model = {"kind": "judge", "server": dict(spec["server"])}
        else:
            local = _Local(spec, where, self.longest_answer, tokens_per_batch, device)
            self.ask = local.ask
            model = local.settings()
        self._facts = {
            **model,
            "mode": self.mode,
            "prompt_sha256": digest_of(self.prompt),
            "max_new_tokens": self.longest_answer,
            "temperature": 0,
        }
        self._kept = store / "judgements" / f"{digest_of(self._facts)}.jsonl"

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        return self._facts

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        if self.mode == "rating":
            return self._rate(language, pairs)
        return self._compare(language, pairs)

    def _compare(self, language: str, pairs: Sequence[Row]) -> Scores:
        orders = (("chosen", "rejected"), ("rejected", "chosen"))
        asked = [
            [self._filled(row, answer_a=row[first], answer_b=row[second]) for first, second in orders] for row in pairs
        ]
        said = self._judgements([prompt for both in asked for prompt in both], language)
        counts: Counter[str] = Counter(judged=2 * len(pairs))
        rewards: dict[str, list[float]] = {side: [] for side in SIDES}
        for both in asked:
            won = dict.fromkeys(SIDES, 0.0)
            places = []
            for prompt, (first, second) in zip(both, orders, strict=True):
                verdict = said[prompt]
                places.append(verdict)
                if verdict == "C":
                    won[first] += 0.25
                    won[second] += 0.25
                elif verdict is not None:
                    won[first if verdict == "A" else second] += 0.5
            for side in SIDES:
                rewards[side].append(won[side])
            counts["off_format"] += places.count(None)
            counts["ties"] += places.count("C")
            # Who is consistent names different places in the two orders.
            counts["consistent_pairs"] += sorted(map(str, places)) in (["A", "B"], ["C", "C"])
            counts["prefers_first_pairs"] += places == ["A", "A"]
            counts["prefers_second_pairs"] += places == ["B", "B"]
        return Scores(rewards["chosen"], rewards["rejected"], counts=dict(counts))

    def _rate(self, language: str, pairs: Sequence[Row]) -> Scores:
        asked = {side: [self._filled(row, answer=row[side]) for row in pairs] for side in SIDES}
        said = self._judgements([prompt for side in SIDES for prompt in asked[side]], language)
        rewards = {side: [float(said[prompt] or 0) for prompt in asked[side]] for side in SIDES}
        missing = sum(said[prompt] is None for side in SIDES for prompt in asked[side])
        return Scores(rewards["chosen"], rewards["rejected"], counts={"judged": 2 * len(pairs), "off_format": missing})

    def _filled(self, row: Row, **answers: Sequence[Message]) -> str:
        values = {"prompt": row["prompt"], **answers}
        pattern = re.compile("|".join(re.escape(f"{{{name}}}") for name in values))
        # In one pass: a text may itself hold a placeholder.
        return pattern.sub(lambda found: _text(values[found.group()[1:-1]]), self.prompt)

    def _judgements(self, prompts: Sequence[str], language: str) -> dict[str, str | None]:
        """Prompt to verdict, None where the answer holds none."""
        wanted = {digest_of(prompt): prompt for prompt in prompts}
        said = self._read()
        missing = [prompt for key, prompt in wanted.items() if key not in said]
        if missing:
            progress = Progress(f"judging {language}", len(missing), "judgements")
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            with self._kept.open("a", encoding="utf-8") as file:
                file.write("\n")  # ends a line that a killed run may have left half-written
                for prompt, text in self.ask(missing, progress):
                    key = digest_of(prompt)
                    said[key] = text
                    file.write(json.dumps({"key": key, "text": text}, ensure_ascii=False) + "\n")
                    file.flush()
        verdicts: dict[str, str | None] = {}
        for key, prompt in wanted.items():
            found = _VERDICTS[self.mode].findall(said[key])
            verdicts[prompt] = found[-1] if found else None
        return verdicts

    def _read(self) -> dict[str, str]:
        said: dict[str, str] = {}
        if self._kept.is_file():
            for line in self._kept.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    entry = json.loads(line)
                    said[entry["key"]] = entry["text"]
                except (json.JSONDecodeError, KeyError, TypeError):  # blank, or cut off when a run was killed
                    continue
        return said


class _Local:
    """A causal language model on this machine, decoded greedily."""

    def __init__(
        self, spec: Mapping[str, Any], where: str, longest_answer: int, tokens_per_batch: int, device: torch.device
    ) -> None:
        self.spec, self.where, self.device = spec, where, device
        self.longest_answer, self.tokens_per_batch = longest_answer, tokens_per_batch
        self.encoder = Encoder(spec, spec["path"], spec.get("revision"), where)
        self._model: Any = None

    def settings(self) -> dict[str, Any]:
        return {
            **loading_settings(self.spec, self.device),
            "model": identity(self.spec["path"], self.spec.get("revision")),
            **self.encoder.settings(),
        }

    @torch.inference_mode()
    def ask(self, prompts: Sequence[str], progress: Progress) -> Iterator[tuple[str, str]]:
        """Prompts with what the model says to them, in any order."""
        if self._model is None:
            self._model = load(
                AutoModelForCausalLM, self.spec["path"], self.spec.get("revision"), self.spec, self.device, self.where
            )
        tokenizer = self.encoder.tokenizer
        stops, _ = chat.turn_end(tokenizer)
        encoded = [
            chat.encode(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)
            for prompt in prompts
        ]
        lengths = [len(ids) + self.longest_answer for ids in encoded]
        limit = self.spec.get("max_length") or self._model.config.get_text_config().max_position_embeddings
        if max(lengths) > limit:
            raise StudyError(
                f"{self.where}: a pair needs {max(lengths):,} tokens with its judgement, more than the {limit:,} that the "
                f"model reads; lower {self.where}.max_new_tokens, or take a judge that reads more"
            )
        for batch in length_batches(lengths, self.tokens_per_batch * _DECODING_FACTOR):
            ids, mask = left_padded([encoded[i] for i in batch], tokenizer.pad_token_id or 0)
            generated = self._model.generate(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=self.longest_answer,
                    eos_token_id=stops or None,
                    pad_token_id=tokenizer.pad_token_id,
                    bos_token_id=tokenizer.bos_token_id,
                ),
            )[:, ids.shape[1] :]
            texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
            yield from zip([prompts[i] for i in batch], texts, strict=True)
            progress.advance(len(batch))


class _Server:
    """POST /chat/completions (https://platform.openai.com/docs/api-reference/chat), the protocol of vLLM and others."""

    def __init__(self, server: Mapping[str, str], where: str, longest_answer: int, requests_at_once: int) -> None:
        self.url = server["url"].rstrip("/") + "/chat/completions"
        self.model, self.where = server["model"], where
        self.longest_answer, self.requests_at_once = longest_answer, requests_at_once
        self.session = requests.Session()
        patience = Retry(
            total=_ATTEMPTS,
            backoff_factor=1,
            status_forcelist=(408, 429, 500, 502, 503, 504, 529),
            allowed_methods=None,  # POST too: asking twice harms nothing
            respect_retry_after_header=True,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=patience, pool_maxsize=requests_at_once))

    def ask(self, prompts: Sequence[str], progress: Progress) -> Iterator[tuple[str, str]]:
        """Prompts with what the server says to them, in any order.

        Raises:
            StudyError: the server refuses, or does not answer in the protocol's form; what came before is kept.
        """
        with ThreadPoolExecutor(self.requests_at_once) as pool:
            waiting = {pool.submit(self._one, prompt): prompt for prompt in prompts}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
                    progress.advance()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _one(self, prompt: str) -> str:
        key = os.environ.get(KEY)
        kept = "finished judgements are kept, run the same command again"
        try:
            response = self.session.post(
                self.url,
                json={
                    "model": self.model,
                    "messages": [{"role": "user", "content": prompt}],
                    "max_tokens": self.longest_answer,
                    "temperature": 0,
                },
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=_PATIENCE,
            )
        except requests.RequestException as problem:
            raise StudyError(
                f"{self.where}: {self.url} does not answer ({type(problem).__name__}); {kept}"
            ) from problem
        if response.status_code in (401, 403):
            raise StudyError(
                f"{self.where}: {self.url} refuses the key (HTTP {response.status_code}); set the environment variable "
                f"{KEY}; {kept}"
            )
        try:
            response.raise_for_status()
            return str(response.json()["choices"][0]["message"]["content"] or "")
        except (requests.RequestException, ValueError, LookupError, TypeError) as problem:
            raise StudyError(
                f"{self.where}: {self.url} answers HTTP {response.status_code}, not a chat completion: "
                f"{response.text[:200]!r}; {kept}"
            ) from problem


def _text(messages: Sequence[Message]) -> str:
    """A message's text; of several, each with its role."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
