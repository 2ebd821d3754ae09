"""Row to token ids: the only place that renders a chat template.

The contract, for every tokenizer: the tokenizer's own template is rendered to text and the text is tokenised without
adding special tokens. The result starts with exactly one BOS if the tokenizer itself puts one before plain text, and
with none otherwise (Qwen). It ends as the template ends: no EOS is added (authors' recipe, arXiv 2410.18027).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rmtransfer.kit.errors import StudyError, in_one_line
from rmtransfer.kit.memory import uncollected
from rmtransfer.models.clock import stop_clock
from rmtransfer.study.names import DATE, SIDES
from rmtransfer.texts.corpus import Message, Row
from rmtransfer.texts.selection import Reading

_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")  # of an object that a template writes out


class RefusalError(StudyError):
    """A chat template does not render a conversation.

    Attributes:
        words: why, in the template's own words.
    """

    def __init__(self, message: str, words: str) -> None:
        super().__init__(message)
        self.words = words


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved in a model folder.

    Raises:
        StudyError: it has no chat template. There is no silent default, because another template is another model.
    """
    with uncollected():
        tokenizer = AutoTokenizer.from_pretrained(path)
    settle_template(tokenizer, f"{path}: the tokenizer", "base_models.<name>")
    return tokenizer


def settle_template(
    tokenizer: PreTrainedTokenizerBase, what: str, key: str, template: str | None = None, date: str = DATE
) -> None:
    """Give a tokenizer the template that renders from here on, with its clock stopped.

    Args:
        what: whose it is, for messages.
        key: config key of the entry that can name another template.
        template: Jinja text that replaces its own.
        date: the day that templates are told, ``YYYY-MM-DD``.

    Raises:
        StudyError: there is no template, or there are several and none is the default; it is no Jinja; it reads of the machine
            more than the clock.
    """
    remedy = f"name a Jinja file in {key}.chat_template"
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
    system, *turns = ("SYSTEM7", "QUESTION7", "ANSWER7", "QUESTION8", "ANSWER8")
    messages: list[Message] = [
        {"role": "assistant" if text.startswith("A") else "user", "content": text} for text in turns
    ]
    remedy = f"name another template in {key}.chat_template"
    try:
        encode(tokenizer, messages[:2], "a question with its answer")
        text = render(tokenizer, messages[:2])
    except StudyError as problem:
        raise StudyError(f"{key}: {problem}; {remedy}") from problem
    if "ANSWER7" not in text:
        raise StudyError(f"{key}: the chat template renders a question and leaves out its answer; {remedy}")
    if _ADDRESS.search(text):
        raise StudyError(
            f"{key}: the chat template writes an object's address in memory, another one each time; {remedy}"
        )

    def tried(messages: Sequence[Message], wanted: str) -> str:
        try:
            return "rendered" if wanted in render(tokenizer, messages) else "ignored"
        except RefusalError as problem:
            return problem.words

    return {
        "system": tried([{"role": "system", "content": system}, *messages[:2]], system),
        "turns": tried(messages, "ANSWER8"),
    }


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
        RefusalError: the template refuses it.
        StudyError: the template puts more than one BOS in front.
    """
    text = render(tokenizer, messages, what, add_generation_prompt=add_generation_prompt)
    ids = list(tokenizer(text.removesuffix(without), add_special_tokens=False)["input_ids"])
    bos = tokenizer.bos_token_id
    if bos is not None:
        if ids[:2] == [bos, bos]:
            raise StudyError("the chat template renders two BOS tokens; remove one from the template")
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


def row_reader(tokenizers: Mapping[str, PreTrainedTokenizerBase]) -> Callable[[Row], Reading]:
    """A function that says what base models make of a row.

    Args:
        tokenizers: by the config key of their base.
    """

    def read(row: Row) -> Reading:
        tokens, alike = 0, None
        for key, tokenizer in tokenizers.items():
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
