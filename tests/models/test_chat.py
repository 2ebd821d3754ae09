"""The token contract: BOS, EOS and template, for Gemma-, Llama- and Qwen-style tokenizers."""

import json

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, GemmaTokenizer, LlamaTokenizer

from conftest import GEMMA, QUESTION_ANSWER, build_tokenizer
from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat

PROMPT = [{"role": "user", "content": "Where?"}]
ANSWER = [{"role": "assistant", "content": "Here."}]


@pytest.mark.parametrize(
    ("family", "bos", "end"),
    [
        ("gemma", ["<bos>"], "<end_of_turn>\n"),
        ("llama", ["<|begin_of_text|>"], "<|eot_id|>"),
        ("qwen", [], "<|im_end|>\n"),
    ],
)
def test_exactly_the_documented_bos_and_end(tokenizers, family, bos, end):
    tokenizer = tokenizers[family]
    ids = chat.encode_answer(tokenizer, PROMPT, ANSWER)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[: len(bos)] == bos
    assert [t for t in tokens if t == tokenizer.bos_token] == bos
    assert tokenizer.decode(ids).endswith("Here." + end)  # nothing after what the template renders
    assert ids == tokenizer.apply_chat_template([*PROMPT, *ANSWER], tokenize=True)["input_ids"]


def test_bos_is_added_where_the_template_forgets_it():
    tokenizer = build_tokenizer("gemma")
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    ids = chat.encode(tokenizer, PROMPT)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


def test_a_template_with_two_bos_is_refused():
    tokenizer = build_tokenizer("llama")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(StudyError, match="two BOS"):
        chat.encode(tokenizer, PROMPT)


def test_prompt_is_a_prefix_of_prompt_with_answer(tokenizers, family):
    tokenizer = tokenizers[family]
    prompt = chat.encode(tokenizer, PROMPT, add_generation_prompt=True)
    assert chat.encode_answer(tokenizer, PROMPT, ANSWER)[: len(prompt)] == prompt


def test_question_answer_template_ends_with_eos_and_keeps_every_turn():
    tokenizer = build_tokenizer("gemma")
    tokenizer.chat_template = QUESTION_ANSWER
    system = [{"role": "system", "content": "Be brief."}]
    text = tokenizer.decode(chat.encode_answer(tokenizer, system + PROMPT, ANSWER))
    assert text == "<bos>Be brief.\n\nQuestion: Where?\n\nAnswer: Here.<eos>"


@pytest.mark.parametrize(
    ("family", "stop", "marker"),
    [
        ("gemma", "<end_of_turn>", "user"),
        ("llama", "<|eot_id|>", "user"),
        ("qwen", "<|im_end|>", "user"),
    ],
)
def test_turn_end_finds_the_stop_tokens(tokenizers, family, stop, marker):
    stops, between = chat.turn_end(tokenizers[family])
    assert tokenizers[family].convert_tokens_to_ids(stop) in stops
    assert tokenizers[family].eos_token_id in stops
    assert marker in between


def gemma_class(tokenizer_class, **options):
    """A tokenizer of a class that builds its own backend from a vocabulary, as Gemma's and Llama 2's do."""
    model = json.loads(build_tokenizer("gemma").backend_tokenizer.to_str())["model"]
    vocabulary = {**model["vocab"], "<unk>": len(model["vocab"])}
    merges = [tuple(merge) for merge in model["merges"]]
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    return tokenizer_class(vocab=vocabulary, merges=merges, **tokens, chat_template=GEMMA, **options)


def adding_eos(family):
    tokenizer = build_tokenizer(family)
    eos = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    return tokenizer


ADD = {"add_bos_token": True, "add_eos_token": True}
TOKENIZERS = {
    "gemma": lambda: build_tokenizer("gemma"),
    "llama": lambda: build_tokenizer("llama"),
    "qwen": lambda: build_tokenizer("qwen"),
    "qwen, with EOS": lambda: adding_eos("qwen"),
    "Gemma's class": lambda: gemma_class(GemmaTokenizer, add_bos_token=True),
    "Gemma's class, with EOS": lambda: gemma_class(GemmaTokenizer, **ADD),
    "Gemma's class, without BOS": lambda: gemma_class(GemmaTokenizer, add_bos_token=False),
    "Llama 2's class": lambda: gemma_class(LlamaTokenizer, add_bos_token=True),
}


@pytest.mark.parametrize("writes_bos", [True, False])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_reward_models_tokenizer_reads_rendered_text_as_training_did(tmp_path, kind, writes_bos):
    tokenizer = TOKENIZERS[kind]()
    if not writes_bos:
        tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    conversation = [*PROMPT, *ANSWER]
    expected, ordinary = chat.encode(tokenizer, conversation), tokenizer("Here.")["input_ids"]
    chat.save_reward_tokenizer(tokenizer, tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert type(saved) is type(tokenizer)
    assert saved(saved.apply_chat_template(conversation, tokenize=False))["input_ids"] == expected
    assert chat.encode(saved, conversation) == expected
    assert chat.encode(saved, PROMPT, add_generation_prompt=True) == chat.encode(
        tokenizer, PROMPT, add_generation_prompt=True
    )
    assert tokenizer("Here.")["input_ids"] == ordinary  # the one in memory goes on as it was

    again = tmp_path / "again"  # a reward model that is trained on
    chat.save_reward_tokenizer(saved, again)
    assert (again / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("writes_bos", [True, False])
def test_the_saved_config_agrees_with_the_post_processor(tmp_path, writes_bos):
    """Where add_bos_token decides, as in transformers 4."""
    tokenizer = gemma_class(GemmaTokenizer, **ADD)
    if not writes_bos:
        tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    chat.save_reward_tokenizer(tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["add_bos_token"], config["add_eos_token"]) == (not writes_bos, False)
    assert config["bos_token"] == "<bos>"


def test_turn_end_of_a_plain_text_template():
    tokenizer = build_tokenizer("gemma")
    tokenizer.chat_template = QUESTION_ANSWER
    assert chat.turn_end(tokenizer) == ([tokenizer.eos_token_id], "Question:")


def test_no_template_is_an_error_not_a_default(tmp_path):
    tokenizer = build_tokenizer("qwen")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(StudyError, match="no chat template"):
        chat.load_tokenizer(tmp_path)


def test_longest_conversation_counts_the_longer_side(bases):
    row = {"prompt": PROMPT, "chosen": ANSWER, "rejected": [{"role": "assistant", "content": "Here. " * 9}]}
    expected = max(
        len(chat.encode_answer(chat.load_tokenizer(folder), PROMPT, row["rejected"])) for folder in bases.values()
    )
    assert chat.longest_conversation(list(bases.values()))(row) == expected
