"""Sample a policy's answers to prompts in many languages, in one process.

Each finished language also rests in a cache outside the declared outputs, keyed by everything that decides it: a new
language costs one language, and a killed job goes on where it was.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, LogitsProcessor

from rmtransfer.alignment.gumbel import GumbelTopK, gumbel_noise
from rmtransfer.kit import stages
from rmtransfer.kit.cores import Cores
from rmtransfer.kit.files import publish, write_once
from rmtransfer.kit.manifest import digest_folder, digest_of
from rmtransfer.kit.progress import Progress, report
from rmtransfer.models import chat
from rmtransfer.models.decoding import DECODING_FACTOR, decode, decoding_batches
from rmtransfer.models.device import inference_dtype, pack_for_cpu, pick_device
from rmtransfer.models.parallel import in_workers
from rmtransfer.models.reading import most_tokens
from rmtransfer.texts.corpus import Row, save_rows
from rmtransfer.translation.quality import in_language

VLLM = "vllm"
_BATCHES_OF_A_ROUND = 4


class Sampler(Protocol):
    """A policy that is loaded."""

    def __call__(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> Iterator[list[tuple[int, list[int]]]]:
        """Sample one answer to each prompt.

        Args:
            prompts: token ids; equal ones follow each other.
            keys: what the noise of each answer depends on.

        Returns:
            (index of the prompt, new token ids) of each batch in turn; a token that ended an answer stays in it.
        """


class TransformersSampler:
    """A policy in this process, whose answers depend on keys and not on batches.

    Args:
        options: ``max_new_tokens, temperature, top_k, top_p``.
        workers: how many batches may be computed at a time on a CPU.
    """

    def __init__(
        self,
        policy: Path,
        tokenizer: Any,
        options: Mapping[str, Any],
        stops: Sequence[int],
        tokens_per_batch: int,
        device: str,
        workers: Callable[[], int],
    ) -> None:
        chosen = pick_device(device)
        model: Any = AutoModelForCausalLM.from_pretrained(policy, dtype=inference_dtype(chosen))
        pack_for_cpu(model, chosen)
        self._model = model.to(chosen).eval()
        # The policy's own settings, such as a penalty on repetitions, would fill in whatever ours leave open.
        self._model.generation_config = GenerationConfig()
        self._tokenizer, self._options, self._stops = tokenizer, options, stops
        self._tokens_per_batch = tokens_per_batch
        self._workers = workers if chosen.type == "cpu" else lambda: 1

    def __call__(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> Iterator[list[tuple[int, list[int]]]]:
        """See :class:`Sampler`."""
        steps, k, temperature, top_p = (
            self._options[name] for name in ("max_new_tokens", "top_k", "temperature", "top_p")
        )
        limits = [steps] * len(prompts)

        def processors(batch: Sequence[int], prompt_length: int) -> list[LogitsProcessor]:
            noise = torch.stack([gumbel_noise(keys[i], steps, k) for i in batch])
            return [GumbelTopK(noise, prompt_length, temperature, top_p)]

        def answer(batch: Sequence[int]) -> list[tuple[int, list[int]]]:
            (answers,) = decode(
                self._model,
                prompts,
                limits,
                [batch],
                pad=self._tokenizer.pad_token_id,
                stops=self._stops,
                processors=processors,
                bos_token_id=self._tokenizer.bos_token_id,
            )
            return answers

        yield from in_workers(answer, decoding_batches(prompts, limits, self._tokens_per_batch), self._workers)


def read_answer(tokenizer: Any, ids: Sequence[int], stops: Sequence[int], marker: str) -> tuple[str, bool]:
    """The text of an answer, and whether it ended by itself; ``stops`` and ``marker`` are those of :func:`chat.turn_end`."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    text, ended, _ = text.partition(marker) if marker else (text, "", "")
    return text.strip(), bool(ended) or not set(stops).isdisjoint(ids)


def sample_answers(
    policy: Path,
    rows: Mapping[str, Sequence[Row]],
    options: Mapping[str, Any],
    seed: int,
    outputs: Mapping[str, Path],
    cache: Path,
    *,
    samples: int,
    tokens_per_batch: int,
    device: str,
    cores: Cores | None = None,
) -> None:
    """Sample answers of one policy in many languages: Parquet rows of ``id, sample, prompt, answer, finished``.

    An answer is finished that ended by itself, in a token or in the text with which the template ends a turn, and not at
    ``max_new_tokens``. An empty answer is an answer. Nothing is loaded where all languages are in the cache.

    Args:
        policy: folder of a causal language model with its tokenizer and its manifest.
        rows: language to rows with ``id`` and ``prompt``.
        options: ``max_new_tokens, temperature, top_k``; ``top_p``, off where it is absent, None or 1; ``engine``,
            ``transformers`` where it is absent, or ``vllm``, whose answers are equal in distribution alone. Others are ignored.
        outputs: language to the file to write.
        cache: folder of finished languages, shared by all policies.
        samples: answers to each prompt. What an answer is depends on its number, and not on how many there are.
        cores: this job's share of the machine's; None for one worker.

    Raises:
        StudyError: the tokenizer has no chat template, or refuses a prompt; prompt and answer are longer than the policy
            reads; the engine is not installed.
    """
    settings = {name: options[name] for name in ("max_new_tokens", "temperature", "top_k")}
    settings["top_p"] = float(options.get("top_p") or 1)
    engine = options.get("engine") or "transformers"
    decides = ["answers", stages.SAMPLING.version, digest_folder(policy), engine, settings, samples, seed]
    kept = {
        language: cache / f"{digest_of([*decides, language, [[r['id'], r['prompt']] for r in texts]])}.parquet"
        for language, texts in rows.items()
    }
    missing = [language for language in rows if not kept[language].is_file()]
    if missing:
        tokenizer: Any = chat.load_tokenizer(policy)
        stops, marker = chat.turn_end(tokenizer)
        prompts = {language: _encoded(tokenizer, rows[language], language) for language in missing}
        longest = _longest(policy, prompts, rows, settings["max_new_tokens"])
        with cores or nullcontext():
            sampler: Sampler
            if engine == VLLM:
                from rmtransfer.alignment.vllm_sampling import VllmSampler

                sampler = VllmSampler(policy, settings, stops, marker, longest, device)
            else:
                workers = cores.workers if cores is not None else lambda: 1
                sampler = TransformersSampler(policy, tokenizer, settings, stops, tokens_per_batch, device, workers)
            for languages in _rounds(missing, prompts, samples, settings["max_new_tokens"], tokens_per_batch):
                jobs = [(language, row, k) for language in languages for row in rows[language] for k in range(samples)]
                keys = [f"{seed}/{language}/{row['id']}/{sample}" for language, row, sample in jobs]
                repeated = [ids for language in languages for ids in prompts[language] for _ in range(samples)]
                progress = Progress(f"sampling {'+'.join(languages)}", len(jobs), "answers")
                found: dict[int, tuple[str, bool]] = {}
                for batch in sampler(repeated, keys):
                    found |= {j: read_answer(tokenizer, ids, stops, marker) for j, ids in batch}
                    progress.advance(len(batch))
                answers: dict[str, list[Row]] = {language: [] for language in languages}
                for j, (language, row, sample) in enumerate(jobs):
                    text, finished = found[j]
                    answers[language].append(
                        {
                            "id": row["id"],
                            "sample": sample,
                            "prompt": row["prompt"],
                            "answer": [{"role": "assistant", "content": text}],
                            "finished": finished,
                        }
                    )
                for language, these in answers.items():
                    report(f"{language}: {_in_words(count_answers(these, language, rows))}")
                    write_once(kept[language], partial(save_rows, these))
    for language, path in kept.items():
        publish(path, outputs[language])


def _rounds(
    languages: Sequence[str],
    prompts: Mapping[str, Sequence[Sequence[int]]],
    samples: int,
    new_tokens: int,
    tokens_per_batch: int,
) -> Iterator[list[str]]:
    """Languages that are sampled together: as many as it takes to fill a few batches.

    A batch that is half empty costs nearly as much as a full one; and what a round has found is in the cache when it ends.
    """
    together: list[str] = []
    tokens = 0
    for language in languages:
        together.append(language)
        tokens += samples * sum(len(ids) + new_tokens for ids in prompts[language])
        if tokens >= _BATCHES_OF_A_ROUND * tokens_per_batch * DECODING_FACTOR:
            yield together
            together, tokens = [], 0
    if together:
        yield together


def count_answers(answers: Sequence[Row], language: str, languages: Iterable[str]) -> dict[str, int]:
    """What an engine made of one language's prompts.

    Args:
        answers: rows of ``id, answer, finished``.
        language: of the prompts.
        languages: of the study, in which the policy may answer as well.

    Returns:
        ``answers``; of these ``empty``, ``unfinished``, ``duplicates`` (the text is that of an earlier answer to the same
        prompt) and ``other_language``, among ``told``, those whose language can be told.
    """
    texts = [row["answer"][-1]["content"] for row in answers]
    distinct = Counter(zip((row["id"] for row in answers), texts, strict=True))
    known = [found for text in texts if (found := in_language(text, language, languages)) is not None]
    return {
        "answers": len(answers),
        "empty": sum(not text.strip() for text in texts),
        "unfinished": sum(not row["finished"] for row in answers),
        "duplicates": len(answers) - len(distinct),
        "other_language": known.count(False),
        "told": len(known),
    }


def _in_words(counts: Mapping[str, int]) -> str:
    return (
        "{answers:,} answers: {empty:,} empty, {unfinished:,} unfinished, {duplicates:,} like an earlier one to the same "
        "prompt, {other_language:,} of {told:,} whose language can be told in another"
    ).format(**counts)


def _encoded(tokenizer: Any, rows: Sequence[Row], language: str) -> list[list[int]]:
    return [
        chat.encode(tokenizer, row["prompt"], f"row {row['id']!r} in {language}", add_generation_prompt=True)
        for row in rows
    ]


def _longest(
    policy: Path, prompts: Mapping[str, Sequence[list[int]]], rows: Mapping[str, Sequence[Row]], new_tokens: int
) -> int:
    """Tokens of the longest prompt, each of which the policy must read together with the longest answer."""
    lengths = [
        (len(ids), f"row {row['id']!r} in {language}")
        for language, these in prompts.items()
        for ids, row in zip(these, rows[language], strict=True)
    ]
    chat.check_lengths(
        [(length + new_tokens, f"{which}, with the longest answer,") for length, which in lengths],
        most_tokens(AutoConfig.from_pretrained(policy)),
        f"alignment.max_new_tokens ({new_tokens:,})",
        "lower it, or remove the row",
    )
    return max(length for length, _ in lengths)
