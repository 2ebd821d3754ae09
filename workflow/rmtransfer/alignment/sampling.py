"""Sample a policy's answers to instructions."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LogitsProcessor

from rmtransfer.kit.progress import Progress
from rmtransfer.models import chat
from rmtransfer.models.decoding import decode, decoding_batches
from rmtransfer.models.device import inference_dtype, pack_for_cpu, pick_device
from rmtransfer.texts.corpus import Row, save_rows


class GumbelTopK(LogitsProcessor):
    """Turns greedy decoding into exact top-k sampling: argmax of logits / temperature + Gumbel noise over the top k.

    The Gumbel-max trick (Gumbel 1954; Maddison et al., arXiv 1411.0030). The noise belongs to the row, not to the batch,
    so the answers do not depend on what they are sampled beside. Drawing k numbers also spares a multinomial draw over
    the whole vocabulary, which costs more than the forward pass where the vocabulary has 262,144 entries.

    Args:
        noise: [rows, steps, k] standard Gumbel numbers.
        prompt_length: padded length of the prompts.
    """

    def __init__(self, noise: torch.Tensor, prompt_length: int, temperature: float) -> None:
        self.noise, self.prompt_length, self.temperature = noise, prompt_length, temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.prompt_length
        values, tokens = scores.float().topk(min(self.noise.shape[-1], scores.shape[-1]))
        noise = self.noise[:, step, : values.shape[-1]].to(values.device)
        drawn = tokens.gather(1, (values / self.temperature + noise).argmax(-1, keepdim=True))
        return scores.scatter_(1, drawn, torch.inf)  # its argmax is all that is read, and a vocabulary is long


def gumbel_noise(key: str, steps: int, k: int) -> torch.Tensor:
    """Standard Gumbel numbers [steps, k] that depend on ``key`` alone."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    uniform = torch.rand(steps, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16))).float()


def read_answer(tokenizer: Any, ids: Sequence[int], stops: Sequence[int], marker: str) -> tuple[str, bool]:
    """The text of an answer, and whether it ended by itself; ``stops`` and ``marker`` are those of :func:`chat.turn_end`."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    text, ended, _ = text.partition(marker) if marker else (text, "", "")
    return text.strip(), bool(ended) or not set(stops).isdisjoint(ids)


def sample_answers(
    base: Path,
    rows: Sequence[Row],
    language: str,
    options: Mapping[str, Any],
    seed: int,
    output: Path,
    *,
    tokens_per_batch: int,
    device: str,
) -> None:
    """Sample answers to instructions from the base model: Parquet rows of ``id, sample, prompt, answer, finished``.

    An answer is finished that ended by itself, in a token or in the text with which the template ends a turn, and not at
    ``max_new_tokens``.

    Args:
        options: the config's ``alignment`` section: ``samples, max_new_tokens, temperature, top_k``.
    """
    chosen = pick_device(device)
    tokenizer: Any = chat.load_tokenizer(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=inference_dtype(chosen))
    pack_for_cpu(model, chosen)
    model = model.to(chosen).eval()
    stops, marker = chat.turn_end(tokenizer)
    jobs = [(index, sample) for index in range(len(rows)) for sample in range(options["samples"])]
    encoded = [
        chat.encode(tokenizer, row["prompt"], f"row {row['id']!r} in {language}", add_generation_prompt=True)
        for row in rows
    ]
    prompts = [encoded[index] for index, _ in jobs]
    steps = options["max_new_tokens"]
    limits = [steps] * len(jobs)

    def processors(batch: Sequence[int], prompt_length: int) -> list[LogitsProcessor]:
        keys = [f"{seed}/{language}/{rows[index]['id']}/{sample}" for index, sample in (jobs[j] for j in batch)]
        noise = torch.stack([gumbel_noise(key, steps, options["top_k"]) for key in keys])
        return [GumbelTopK(noise, prompt_length, options["temperature"])]

    answers: dict[tuple[int, int], tuple[str, bool]] = {}
    progress = Progress(f"sampling {language}", len(jobs), "answers")
    for batch in decode(
        model,
        prompts,
        limits,
        decoding_batches(prompts, limits, tokens_per_batch),
        pad=tokenizer.pad_token_id,
        stops=stops,
        processors=processors,
        bos_token_id=tokenizer.bos_token_id,
    ):
        for j, ids in batch:
            answers[jobs[j]] = read_answer(tokenizer, ids, stops, marker)
        progress.advance(len(batch))
    save_rows(
        [
            {
                "id": rows[index]["id"],
                "sample": sample,
                "prompt": rows[index]["prompt"],
                "answer": [{"role": "assistant", "content": text}],
                "finished": finished,
            }
            for index, sample in jobs
            for text, finished in [answers[index, sample]]
        ],
        output,
    )
