"""What a training leaves behind: weights, tokenizer and model card, and the check that they give the rewards of the trained model."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rmtransfer.kit.progress import report
from rmtransfer.models import adapters, chat, families, reward
from rmtransfer.models.device import TOKENS_IN_REDUCED_PRECISION, inference_dtype
from rmtransfer.models.training_log import write_training_log
from rmtransfer.texts.corpus import Message

_CONVERSATION = (
    'folder = "."  # this folder',
    "conversation = [",
    '    {"role": "user", "content": "What is the capital of France?"},',
    '    {"role": "assistant", "content": "Paris."},',
    "]",
)
_PIPELINE = (
    "from transformers import pipeline",
    "",
    *_CONVERSATION,
    'reward_model = pipeline("text-classification", model=folder)',
    "text = reward_model.tokenizer.apply_chat_template(conversation, tokenize=False)",
    'reward = reward_model(text)[0]["score"]',
)
_LOADED = "model = AutoModelForSequenceClassification.from_pretrained(folder)"
_FORWARD_PASS = (
    "import torch",
    "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
    "",
    "tokenizer = AutoTokenizer.from_pretrained(folder)",
    _LOADED,
    "text = tokenizer.apply_chat_template(conversation, tokenize=False)",
    "with torch.inference_mode():",
    '    reward = model(**tokenizer(text, return_tensors="pt")).logits.item()',
)
_WHOLE = ("```python", *_PIPELINE, "```", "", "The same by a forward pass:", "", "```python", *_FORWARD_PASS, "```")
_ADAPTER = (
    "```python",
    *_CONVERSATION,
    *(line.replace("(folder)", "(folder, num_labels=1)") if line == _LOADED else line for line in _FORWARD_PASS),
    "```",
    "",
    "This folder holds an adapter alone, for which the package peft is needed. It names its base model by the path from here:",
    "run the above in this folder, and keep the two where they are as seen from each other.",
)


def save_reward_model(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    card: Mapping[str, str],
    recipe: Mapping[str, Any],
    log: Sequence[Mapping[str, float]],
) -> None:
    """Write weights, tokenizer with its chat template, training log and a model card.

    Args:
        log: see :func:`rmtransfer.models.training_log.training_log`; its last row is the last step's.
    """
    output.mkdir(parents=True, exist_ok=True)
    model.config.use_cache = False  # a reward reads its text once, and some hybrids' caches cannot be filled
    model.config.problem_type = "regression"  # a pipeline then returns the reward and not its sigmoid
    needs_code = families.needs_code(model.config)
    if isinstance(model, PeftModel):
        adapters.save_adapter(model, output)
    else:
        model.save_pretrained(output)
        if needs_code:
            families.bring_code(model.config, output)
    chat.save_reward_tokenizer(tokenizer, output)
    write_training_log(log, output)
    last = log[-1] if log else {}
    measured = {
        "training loss, last step": last.get("loss", math.nan),
        "loss on held-out pairs": last.get("held_out_loss", math.nan),
        "accuracy on held-out pairs": last.get("held_out_accuracy", math.nan),
    }
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        f"language: [{card['languages']}]",
        "tags: [reward-model, trl]",
        "---",
        "",
        f"# Reward model: {card['base_model']} trained on {card['train_language']}",
        "",
        "Bradley-Terry reward model, one scalar per conversation, higher is better. It reads conversations as the",
        "tokenizer's chat template renders them:",
        "",
        *(_trusting(line) if needs_code else line for line in (_ADAPTER if isinstance(model, PeftModel) else _WHOLE)),
        "",
        "| | |",
        "|---|---|",
        *[f"| {key} | {value} |" for key, value in {**card, **recipe}.items()],
        *[f"| {name} | {value:.4f} |" for name, value in measured.items() if not math.isnan(value)],
        "",
        "The base model's licence applies to these weights.",
        "",
    ]
    (output / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _trusting(line: str) -> str:
    """A line of the card for a family whose class comes with the model."""
    loads = line.startswith(("model = ", "reward_model = "))
    return f"{line.removesuffix(')')}, trust_remote_code=True)" if loads else line


def _as_the_card_loads(folder: Path) -> Any:
    if (folder / reward.ADAPTER_CONFIG).is_file():
        return adapters.load_adapter(folder, reward.build_reward_model(adapters.base_of(folder), 0))
    return families.load_classifier(folder, dtype=torch.float32)


def rescore(
    folder: Path, conversations: Sequence[Sequence[Message]], expected: torch.Tensor, device: torch.device
) -> float:
    """The largest difference between ``expected`` rewards [n] and those of what ``folder`` holds, as its card reads it.

    Where scoring computes in less precision (:func:`rmtransfer.models.device.inference_dtype`), the model is also loaded as it
    is for scoring, and its last-token states must be those of fp32, by the norm of their difference, to a quarter: bf16 rounds to
    8 bits at every layer (at most 0.07 in the 270M model), and what is damaged or overflows is off by far more.

    Raises:
        RuntimeError: either is more than rounding explains.
    """
    saved = _as_the_card_loads(folder).to(device).eval()
    tokenizer = chat.load_tokenizer(folder)
    texts = [chat.render(tokenizer, c) for c in conversations]
    encoded = [tokenizer(text, return_tensors="pt").to(device) for text in texts]
    with torch.inference_mode():
        read = [saved(**inputs, output_hidden_states=True) for inputs in encoded]
    difference = (torch.tensor([one.logits.item() for one in read]) - expected).abs().max().item()
    if not difference <= 1e-3:  # also true for NaN
        raise RuntimeError(f"{folder}: reloaded from disk it gives rewards that differ by {difference:.2g}")
    report(f"reloaded from disk and rescored: rewards differ by at most {difference:.1e}")
    dtype = inference_dtype(device)
    if dtype != torch.float32:
        states = torch.stack([one.hidden_states[-1][0, -1] for one in read]).cpu()
        del saved, read
        sequences = [inputs["input_ids"][0].tolist() for inputs in encoded]
        rewards, reduced = reward.score(reward.load_weights(folder, device), sequences, TOKENS_IN_REDUCED_PRECISION)
        off = ((reduced - states).norm(dim=1) / states.norm(dim=1)).max().item()
        if not off <= 0.25:
            raise RuntimeError(f"{folder}: in {dtype} its states are others than in fp32, relatively by {off:.2g}")
        turned = (rewards - expected).abs().max().item()
        report(f"the same in {dtype}: states differ relatively by at most {off:.1e}, rewards by {turned:.1e}")
    return difference
