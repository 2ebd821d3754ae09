"""Row to token ids: the only place that renders a chat template.

The contract, for every tokenizer: the tokenizer's own template is rendered to text and the text is tokenised without
adding special tokens. The result starts with exactly one BOS if the tokenizer itself puts one before plain text, and
with none otherwise (Qwen). It ends as the template ends: no EOS is added (authors' recipe, arXiv 2410.18027).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.corpus import Message, Row


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved in a model folder.

    Raises:
        StudyError: it has no chat template. There is no silent default, because another template is another model.
    """
    tokenizer = AutoTokenizer.from_pretrained(path)
    if not tokenizer.chat_template:
        raise StudyError(
            f"{path}: the tokenizer has no chat template; name a Jinja file in base_models.<name>.chat_template"
        )
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tokenizer with its chat template, compactly: every job parses the file, several times over."""
    tokenizer.save_pretrained(folder)
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def save_reward_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a tokenizer whose ordinary call on text that its template rendered gives the ids of :func:`encode`.

    Where the template writes BOS and the tokenizer adds another, a reward model would read what it was never trained on.
    """
    probe: list[Message] = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    text, ids = str(tokenizer.apply_chat_template(probe, tokenize=False)), encode(tokenizer, probe)
    if tokenizer(text)["input_ids"] == ids or not tokenizer.is_fast:
        save_tokenizer(tokenizer, folder)
        return
    bos = [] if tokenizer(text, add_special_tokens=False)["input_ids"] == ids else [str(tokenizer.bos_token)]
    backend = tokenizer.backend_tokenizer
    before = backend.post_processor
    backend.post_processor = TemplateProcessing(
        single=[*bos, "$A"], special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in bos]
    )
    try:
        save_tokenizer(tokenizer, folder)
    finally:
        backend.post_processor = before
    # transformers 5 goes by the post-processor; transformers 4 and others build theirs from these.
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"add_bos_token": bool(bos), "add_eos_token": False}
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def encode(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> list[int]:
    """Token ids of a conversation, by the contract above.

    Raises:
        StudyError: the template puts more than one BOS in front.
    """
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    bos = tokenizer.bos_token_id
    if bos is not None:
        if ids[:2] == [bos, bos]:
            raise StudyError("the chat template renders two BOS tokens; remove one from the template")
        if ids[:1] != [bos] and tokenizer("a")["input_ids"][:1] == [bos]:
            ids.insert(0, bos)
    return ids


def encode_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], answer: Sequence[Message]
) -> list[int]:
    """Token ids of a prompt with its answer: what a reward model reads."""
    return encode(tokenizer, [*prompt, *answer])


def check_lengths(lengths: Iterable[tuple[int, str]], most: int | None, key: str, remedy: str) -> None:
    """Refuse texts that are longer than a model reads. Nothing is ever cut off.

    Args:
        lengths: tokens of each text, and which it is, for the message.
        key: config key of the model, for the message.

    Raises:
        StudyError: one is; the longest is named.
    """
    too_long = [] if most is None else [text for text in lengths if text[0] > most]
    if too_long:
        tokens, text = max(too_long)
        more = f" (and {len(too_long) - 1} more texts are too long)" if len(too_long) > 1 else ""
        raise StudyError(
            f"{key}: {text} has {tokens:,} tokens, more than the {most:,} that the model reads{more}; {remedy}"
        )


def turn_end(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], str]:
    """How an answer of the policy ends under this template.

    Returns:
        The ids of special tokens that the template puts right after an answer, the tokenizer's EOS included, and the
        text that it puts between an answer and the next user message (empty where only special tokens stand there).
    """
    question, answer, follow_up = "QUESTION7", "ANSWER7", "FOLLOWUP7"
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": follow_up},
    ]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    between = text[text.index(answer) + len(answer) : text.index(follow_up)]
    special = set(tokenizer.all_special_ids)
    ids = tokenizer(between, add_special_tokens=False)["input_ids"]
    stops = list(dict.fromkeys([i for i in [*ids[:1], tokenizer.eos_token_id] if i in special]))
    for token in tokenizer.all_special_tokens:
        between = between.replace(token, "\n")
    return stops, between.strip()


def longest_conversation(folders: Sequence[Path]) -> Callable[[Row], int]:
    """A function that counts the tokens of a pair's longer conversation, under the hungriest of some tokenizers."""
    tokenizers = [load_tokenizer(folder) for folder in folders]

    def count(row: Row) -> int:
        return max(
            len(encode_answer(tokenizer, row["prompt"], row[side]))
            for tokenizer in tokenizers
            for side in ("chosen", "rejected")
        )

    return count
