"""Row to token ids: the only place that renders a chat template.

The contract, for every tokenizer: the tokenizer's own template is rendered to text and the text is tokenised without
adding special tokens. The result starts with exactly one BOS if the tokenizer itself puts one before plain text, and
with none otherwise (Qwen). It ends as the template ends: no EOS is added (authors' recipe, arXiv 2410.18027).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rmtransfer.kit.collector import uncollected
from rmtransfer.kit.errors import StudyError, in_one_line
from rmtransfer.models.clock import stop_clock
from rmtransfer.study.names import DATE, SIDES
from rmtransfer.texts.corpus import Message, Row
from rmtransfer.texts.selection import Reading

_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")  # of an object that a template writes out
_SHAPES: dict[str, list[Message]] = {  # conversations whose every message a template should write
    "system": [
        {"role": "system", "content": "SYSTEM7"},
        {"role": "user", "content": "QUESTION7"},
        {"role": "assistant", "content": "ANSWER7"},
    ],
    "turns": [
        {"role": "user", "content": "QUESTION7"},
        {"role": "assistant", "content": "ANSWER7"},
        {"role": "user", "content": "QUESTION8"},
        {"role": "assistant", "content": "ANSWER8"},
    ],
}


class RefusalError(StudyError):
    """A chat template does not render a conversation.

    Attributes:
        words: why, in the template's own words.
    """

    def __init__(self, message: str, words: str) -> None:
        super().__init__(message)
        self.words = words


def load_tokenizer(path: Path, date: str = DATE) -> PreTrainedTokenizerBase:
    """The tokenizer saved in the folder of a model of this workflow.

    Args:
        date: the day that its template is told, if it writes one and was saved without (by an early version).

    Raises:
        StudyError: it has no chat template. There is no silent default, because another template is another model.
    """
    with uncollected():
        tokenizer = AutoTokenizer.from_pretrained(path)
    settle_template(tokenizer, f"{path}: the tokenizer", None, date=date)
    return tokenizer


def settle_template(
    tokenizer: PreTrainedTokenizerBase, what: str, key: str | None, template: str | None = None, date: str = DATE
) -> None:
    """Give a tokenizer the template that renders from here on, with its clock stopped.

    Args:
        what: whose it is, for messages.
        key: config key of the entry that can name another template; None if there is none.
        template: Jinja text that replaces its own.
        date: the day that templates are told, ``YYYY-MM-DD``.

    Raises:
        StudyError: there is no template, or there are several and none is the default; it is no Jinja; it reads of the machine
            more than the clock.
    """
    remedy = (
        f"name a Jinja file in {key}.chat_template"
        if key
        else "write one there (chat_template.jinja), or name another model"
    )
    if tokenizer.sep_token and key and key.startswith("reward_models."):  # an encoder's
        remedy += f", or set {key}.pair: true, if the model reads question and answer as a pair"
    own = template if template is not None else tokenizer.chat_template
    if not own:
        raise StudyError(f"{what} has no chat template; {remedy}")
    if isinstance(own, dict) and "default" not in own:
        raise StudyError(f"{what} has chat templates called {', '.join(own)} and none called default; {remedy}")
    try:
        tokenizer.chat_template = (
            {name: stop_clock(text, date) for name, text in own.items()}
            if isinstance(own, dict)
            else stop_clock(own, date)
        )
    except StudyError as problem:
        raise StudyError(f"{what}: {problem}; {remedy}") from problem


def probe_template(tokenizer: PreTrainedTokenizerBase, key: str) -> dict[str, str]:
    """What a chat template does with conversations of each shape: ``rendered``, ``ignored``, or its own words for refusing them.

    Args:
        key: config key of the model, for messages.

    Returns:
        ``system``: a system message in front; ``turns``: two questions, each with its answer.

    Raises:
        StudyError: it does not render a question with its answer, or renders it without the answer, with two BOS or with
            what is different every time.
    """
    pair = _SHAPES["turns"][:2]
    remedy = f"name another template in {key}.chat_template"
    try:
        encode(tokenizer, pair, "a question with its answer")
        text = render(tokenizer, pair)
    except StudyError as problem:
        raise StudyError(f"{key}: {problem}; {remedy}") from problem
    if not _writes(text, pair[1]):
        raise StudyError(f"{key}: the chat template renders a question and leaves out its answer; {remedy}")
    found = {name: _shape(tokenizer, messages) for name, messages in _SHAPES.items()}
    if any(map(_ADDRESS.search, [text, *(text for _, text in found.values())])):
        raise StudyError(
            f"{key}: the chat template writes an object's address in memory, another one each time; {remedy}"
        )
    return {name: what for name, (what, _) in found.items()}


def _shape(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[str, str]:
    """What a chat template does with a conversation, as :func:`probe_template` says it, and the text."""
    try:
        text = render(tokenizer, messages)
    except RefusalError as problem:
        return problem.words, ""
    return "rendered" if all(_writes(text, message) for message in messages) else "ignored", text


def _writes(text: str, message: Message) -> bool:
    """Whether a message of a probe is in a text; some templates write it in other case."""
    return message["content"].lower() in text.lower()


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
    text, ids = render(tokenizer, probe), encode(tokenizer, probe)
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


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    what: str = "the conversation",
    *,
    add_generation_prompt: bool = False,
) -> str:
    """A conversation as text: the only call of a chat template.

    Args:
        what: names it, for messages.

    Raises:
        RefusalError: the template raises something.
    """
    try:
        return str(
            tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)
        )
    except Exception as problem:  # a template raises what it says, and whatever its code runs into
        words = in_one_line(problem)
        raise RefusalError(f"the chat template refuses {what}: {words}", words) from problem


def encode(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    what: str = "the conversation",
    *,
    add_generation_prompt: bool = False,
    without: str = "",
) -> list[int]:
    """Token ids of a conversation, by the contract above.

    Args:
        what: names it, for messages.
        without: what the rendered text ends with and is not encoded.

    Raises:
        RefusalError: the template refuses it, or puts more than one BOS in front.
    """
    text = render(tokenizer, messages, what, add_generation_prompt=add_generation_prompt)
    ids = list(tokenizer(text.removesuffix(without), add_special_tokens=False)["input_ids"])
    bos = tokenizer.bos_token_id
    if bos is not None:
        if ids[:2] == [bos, bos]:
            words = "two BOS tokens stand in front; remove one from the template"
            raise RefusalError(f"the chat template renders {what} wrongly: {words}", words)
        if ids[:1] != [bos] and tokenizer("a")["input_ids"][:1] == [bos]:
            ids.insert(0, bos)
    return ids


def encode_answer(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[Message],
    answer: Sequence[Message],
    what: str = "the conversation",
    *,
    ended: bool = True,
) -> list[int]:
    """Token ids of a prompt with its answer: what a reward model reads.

    Args:
        ended: false for an answer that was cut off, which ends without what the template writes after one.
    """
    after = "" if ended else _after_answer(tokenizer, prompt, what)
    return encode(tokenizer, [*prompt, *answer], what, without=after)


def _after_answer(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], what: str) -> str:
    """What the template writes after the answer to a prompt."""
    answer = "ANSWER7"
    return render(tokenizer, [*prompt, {"role": "assistant", "content": answer}], what).rpartition(answer)[2]


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
    try:
        text = render(tokenizer, messages)
        between = text[text.index(answer) + len(answer) : text.index(follow_up)]
    except RefusalError:  # of a second question
        between = render(tokenizer, messages[:2]).partition(answer)[2]
    special = set(tokenizer.all_special_ids)
    ids = tokenizer(between, add_special_tokens=False)["input_ids"]
    stops = list(dict.fromkeys([i for i in [*ids[:1], tokenizer.eos_token_id] if i in special]))
    for token in tokenizer.all_special_tokens:
        between = between.replace(token, "\n")
    return stops, between.strip()


def row_reader(tokenizers: Mapping[str, PreTrainedTokenizerBase], *, whole: bool = True) -> Callable[[Row], Reading]:
    """A function that says what models make of a row.

    Args:
        tokenizers: by the config key of their model.
        whole: whether a row is refused of which a template leaves out messages. A model of others may read what it was made to.
    """
    ignored = {
        key: [name for name, messages in _SHAPES.items() if whole and _shape(tokenizer, messages)[0] == "ignored"]
        for key, tokenizer in tokenizers.items()
    }

    def read(row: Row) -> Reading:
        tokens, alike = 0, None
        system = row["prompt"][0]["role"] == "system"
        has = {"system": system, "turns": len(row["prompt"]) > 1 + system}
        for key, tokenizer in tokenizers.items():
            if left_out := next((name for name in ignored[key] if has[name]), None):
                what = {"system": "its system message", "turns": "some of its turns"}[left_out]
                return Reading(0, f"the chat template of {key} leaves out {what}")
            try:
                if SIDES[0] not in row:
                    tokens = max(tokens, len(encode(tokenizer, row["prompt"], add_generation_prompt=True)))
                    continue
                chosen, rejected = (encode_answer(tokenizer, row["prompt"], row[side]) for side in SIDES)
            except RefusalError as problem:
                return Reading(0, f"the chat template of {key} refuses it: {problem.words}")
            tokens = max(tokens, len(chosen), len(rejected))
            if chosen == rejected:
                alike = f"chosen and rejected are the same {len(chosen)} tokens to {key}, whose template or tokenizer drops what differs"
        return Reading(tokens, alike=alike)

    return read


def check_special_tokens(tokenizer: PreTrainedTokenizerBase, config: Any, key: str) -> None:
    """Whether an encoder is given what it was trained with: its tokenizer puts [CLS] and [SEP] around a text.

    Args:
        config: the model's.
        key: config key of the model, for messages.

    Raises:
        StudyError: the chat template leaves out what the tokenizer adds to plain text. A decoder's EOS is the template's
            business.
    """
    added = Counter(tokenizer("a")["input_ids"]) - Counter(tokenizer("a", add_special_tokens=False)["input_ids"])
    if tokenizer.eos_token_id != tokenizer.sep_token_id and not config.is_encoder_decoder:
        del added[tokenizer.eos_token_id]
    rendered = encode(tokenizer, _SHAPES["turns"][:2])
    lacking = [str(token) for token in tokenizer.convert_ids_to_tokens([*(added - Counter(rendered))])]
    if lacking:
        raise StudyError(
            f"{key}: the chat template writes no {' and no '.join(lacking)}, which the tokenizer puts around a text and the "
            f"model was trained with; set {key}.pair: true, if it reads question and answer as a pair, or write "
            f"{' '.join(lacking)} into the template ({key}.chat_template)"
        )


def check_pair(tokenizer: PreTrainedTokenizerBase, key: str) -> None:
    """Whether a tokenizer knows pairs of texts.

    Raises:
        StudyError: it puts nothing between the two.
    """
    if (
        tokenizer("a", "b")["input_ids"]
        == tokenizer("a")["input_ids"] + tokenizer("b", add_special_tokens=False)["input_ids"]
    ):
        raise StudyError(f"{key}.pair: the model's tokenizer puts nothing between two texts; remove it")


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[Message], answer: Sequence[Message]
) -> Mapping[str, list[int]]:
    """Question and answer as the two texts of the tokenizer's own pair, as encoders trained on pairs are published.

    That is ``tokenizer(question, answer)``, with the special tokens and segments of its post-processor. Of several messages of
    either, the contents are joined by a blank line.

    Returns:
        ``input_ids`` and, where the model is told which text a token belongs to, ``token_type_ids``.
    """
    return tokenizer(*("\n\n".join(message["content"] for message in side) for side in (prompt, answer)))
