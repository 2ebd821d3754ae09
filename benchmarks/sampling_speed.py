"""How fast answers are sampled, against stock transformers one answer at a time, in fp32 on a CPU.

    PYTHONPATH=workflow .venv/bin/python -m benchmarks.sampling_speed BASE_FOLDER PROMPTS.jsonl

Both draw the same noise for an answer, so that the answers must be the same but for rounding. Both load the model.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common

_ALIKE = 0.9  # share of answers that must be the same; a rounding error may turn one now and then


def main() -> None:
    """Print seconds and ratios."""
    parser = common.parser_of(__doc__, "sampling_speed")
    parser.add_argument("base", type=Path, help="folder of a base model that a study has prepared")
    parser.add_argument("prompts", type=Path, help="JSONL of id, prompt")
    parser.add_argument("--prompts-used", type=int, default=12, help="the first so many")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--tokens-per-batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()

    import torch
    from transformers.utils import logging

    from rmtransfer.texts.corpus import valid_rows

    logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    lines = arguments.prompts.read_text(encoding="utf-8").splitlines()[: arguments.prompts_used]
    rejected: list[dict[str, Any]] = []
    rows = list(valid_rows(enumerate(map(json.loads, lines), 1), ("prompt",), {}, rejected))
    if rejected:
        raise SystemExit(f"{arguments.prompts}: {rejected[0]}")
    options = {
        "max_new_tokens": arguments.max_new_tokens,
        "temperature": 0.7,
        "top_k": 50,
    }
    measured = common.in_turns(
        {
            "together": lambda: sampled_together(
                arguments.base, rows, options, arguments.samples, arguments.tokens_per_batch
            ),
            "one at a time": lambda: sampled_alone(arguments.base, rows, options, arguments.samples),
        },
        arguments.rounds,
    )
    ours, stock = measured["together"], measured["one at a time"]
    count = len(rows) * arguments.samples
    same = sum(a == b for a, b in zip(ours.result, stock.result, strict=True))
    if same < _ALIKE * count:
        raise SystemExit(f"only {same} of {count} answers are the same")
    common.publish(
        "sampling_speed",
        common.machine(arguments.threads),
        "python -m benchmarks.sampling_speed BASE PROMPTS",
        [
            common.Gain(
                f"sampling {arguments.samples} answers to each of {len(rows)} prompts, load included",
                "generate, one answer at a time",
                common.faster(stock, ours),
            )
        ],
        [
            common.Table(
                [
                    {
                        "": name,
                        "seconds": common.spread(run.seconds),
                        "CPU seconds": common.spread(run.cpu),
                        "answers/s": f"{count / min(run.seconds):.2f}",
                    }
                    for name, run in measured.items()
                ],
                [f"{same} of {count} answers are the same; at most {arguments.max_new_tokens} tokens each."],
            )
        ],
        record=arguments.record,
    )


def sampled_together(
    base: Path,
    rows: Sequence[dict[str, Any]],
    options: dict[str, Any],
    samples: int,
    tokens_per_batch: int,
    device: str = "cpu",
) -> list[str]:
    """Answers as a job of the study samples them, prompt by prompt."""
    from rmtransfer.alignment.sampling import sample_answers
    from rmtransfer.texts.corpus import load_rows

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "answers.parquet"
        sample_answers(
            base,
            {"en": rows},
            options,
            0,
            {"en": output},
            Path(folder) / "cache",
            samples=samples,
            tokens_per_batch=tokens_per_batch,
            device=device,
        )
        return [row["answer"][0]["content"] for row in load_rows(output)]


def sampled_alone(base: Path, rows: Sequence[dict[str, Any]], options: dict[str, Any], samples: int) -> list[str]:
    """The same answers by one call of a stock model's generate for each."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from rmtransfer.alignment.gumbel import GumbelTopK, gumbel_noise
    from rmtransfer.models import chat

    tokenizer: Any = chat.load_tokenizer(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    stops, marker = chat.turn_end(tokenizer)
    steps = options["max_new_tokens"]
    config = GenerationConfig(
        do_sample=False, max_new_tokens=steps, eos_token_id=sorted(stops) or None, pad_token_id=tokenizer.pad_token_id
    )
    answers = []
    for row in rows:
        prompt = torch.tensor([chat.encode(tokenizer, row["prompt"], add_generation_prompt=True)])
        for sample in range(samples):
            noise = gumbel_noise(f"0/en/{row['id']}/{sample}", steps, options["top_k"])[None]
            with torch.inference_mode():
                generated = model.generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    generation_config=config,
                    logits_processor=[GumbelTopK(noise, prompt.shape[1], options["temperature"])],
                )
            text = tokenizer.decode(generated[0, prompt.shape[1] :], skip_special_tokens=True)
            answers.append((text.split(marker)[0] if marker else text).strip())
    return answers


if __name__ == "__main__":
    main()
