"""A causal language model is asked with the prompt of the config, bounded, and cut where its answer ends."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat
from rmtransfer.translation.llm import CausalLM
from rmtransfer.translation.quality import COMMENT, CUT_OFF
from scripted_engine import MACHINE

PROMPT = "Translate {source_language} into {target_language}: {text} ="
TEXTS = [
    "What is the capital of France?",
    "Paris.",
    "The capital of France is Paris. One two",
    "Use {target_language}.",
]


def engine(folder, tokens=4096, **options):
    options = CausalLM.Options(**{"model": str(folder), "prompt": PROMPT, **options})
    return CausalLM(options, "en", "zh-Hant", MACHINE._replace(tokens_per_batch=tokens))


def ask(one, texts=TEXTS):
    return {text: answer for batch in one.translate(texts) for text, answer in batch.items()}


@pytest.mark.parametrize("in_chat", [True, False])
def test_answers_do_not_depend_on_the_batch(base, in_chat):
    together = ask(engine(base, chat=in_chat))
    alone = ask(engine(base, tokens=1, chat=in_chat), TEXTS[::-1])
    assert together == alone
    assert set(together) == set(TEXTS)


@pytest.mark.parametrize("in_chat", [True, False])
def test_answers_are_those_of_stock_transformers(base, in_chat):
    """Greedy decoding of the filled-in prompt; a plain model's answer ends with its line."""
    ours = ask(engine(base, chat=in_chat))
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for text in TEXTS:
        prompt = f"Translate English into Traditional Chinese: {text} ="
        if in_chat:
            ids = chat.encode(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)
            stops = chat.turn_end(tokenizer)[0]
        else:
            newline = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
            ids, stops = tokenizer(prompt)["input_ids"], [tokenizer.eos_token_id, *newline]
        limit = 3 * len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 30
        prompt = torch.tensor([ids])
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )[0, len(ids) :].tolist()
        out = out[: next((i for i, t in enumerate(out) if t in stops), None)]
        assert ours[text].text == tokenizer.decode(out, skip_special_tokens=True).strip()


def forced(one, follow):
    """The engine, its model made to write the ids of ``follow`` after any prompt."""
    tokenizer, model = one._load()
    ids = [
        i
        for part in follow
        for i in (part if isinstance(part, list) else tokenizer.encode(part, add_special_tokens=False))
    ]
    seen = [0]

    def write(module, inputs, output):
        logits = torch.full_like(output, -1e9)
        logits[..., ids[min(seen[0], len(ids) - 1)]] = 0
        seen[0] += 1
        return logits

    model.lm_head.register_forward_hook(write)
    return one


def test_an_answer_ends_where_the_turn_or_the_line_ends(bases):
    tokenizer = AutoTokenizer.from_pretrained(bases["qwen"])
    one = forced(engine(bases["qwen"]), ["Paris", [tokenizer.eos_token_id], "one"])
    assert ask(one, TEXTS[:1])[TEXTS[0]].text == "Paris"
    one = forced(engine(bases["qwen"], chat=False), ["Paris", "\n", "one"])
    (answer,) = ask(one, TEXTS[:1]).values()
    assert (answer.text, answer.flaws) == ("Paris", ())


def test_what_never_ends_and_what_answers_in_several_lines_is_flagged(bases):
    assert ask(forced(engine(bases["llama"]), ["one"]), TEXTS[1:2])[TEXTS[1]].flaws == (CUT_OFF,)
    tokenizer = AutoTokenizer.from_pretrained(bases["llama"])
    (answer,) = ask(forced(engine(bases["llama"]), ["Sure\n\nParis", [tokenizer.eos_token_id]]), TEXTS[1:2]).values()
    assert answer.flaws == (COMMENT,)


def test_what_decides_a_translation_is_in_the_scope(bases):
    key = engine(bases["llama"]).scope.key
    assert key == engine(bases["llama"], tokens=7).scope.key
    others = [engine(bases["qwen"]), engine(bases["llama"], chat=False), engine(bases["llama"], prompt="{text}")]
    assert len({key, *(o.scope.key for o in [*others, others[0].safer()])}) == 5


def test_what_cannot_be_asked_is_refused(bases, translators, tmp_path):
    with pytest.raises(StudyError, match="does not load as a causal language model"):
        ask(engine(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(bases["llama"])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "plain")
    AutoModelForCausalLM.from_pretrained(bases["llama"]).save_pretrained(tmp_path / "plain")
    with pytest.raises(StudyError, match="no chat template; set chat: false"):
        ask(engine(tmp_path / "plain"))
