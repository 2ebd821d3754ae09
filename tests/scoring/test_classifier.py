"""Sequence classifiers of others: their own numbers, or a message that says why not."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from conftest import LLAMA, encoder_tokenizer, pair
from decoders import widen
from rmtransfer.kit.errors import StudyError
from rmtransfer.models.loading import ModelSpec
from rmtransfer.scoring.classifier import Classifier
from scored import classifier, run, settings

CUSTOM = '''
from dataclasses import dataclass

import torch
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.utils import ModelOutput


@dataclass
class Outputs(ModelOutput):
    rewards: torch.Tensor = None
    score: torch.Tensor = None
    logits: torch.Tensor = None


class TwoStories(LlamaPreTrainedModel):
    """Five objectives and a gate that reads the first half, as real ones do: no padding survives it."""

    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.objectives = torch.nn.Linear(config.hidden_size, 5, bias=False)
        self.gate = torch.nn.Linear(config.hidden_size, 5, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        states = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        rewards = self.objectives(states[:, -1])
        gate = self.gate(states[:, states.shape[1] // 2]).softmax(-1)
        return Outputs(rewards=rewards, score=(rewards * gate).sum(-1), logits=rewards)
'''


@pytest.fixture
def custom(bases, tmp_path) -> Path:
    """A model whose head is code of its own."""
    folder = tmp_path / "custom"
    shutil.copytree(bases["llama"], folder)
    (folder / "manifest.json").unlink()
    (folder / "two_stories.py").write_text(CUSTOM)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "two_stories.TwoStories"}
    config["architectures"] = ["TwoStories"]
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(2)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        for head in (model.objectives, model.gate):
            head.weight.normal_(0, 1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The models that were really loaded."""
    seen: list[str] = []
    original = ModelSpec.load
    monkeypatch.setattr(ModelSpec, "load", lambda self, factory: (seen.append(self.name), original(self, factory))[1])
    return seen


def spec(folder, **more) -> dict:
    return {"kind": "classifier", "path": str(folder), **more}


@torch.inference_mode()
def plainly(folder: Path, pairs, read=lambda output: output.logits[0, 0], **options) -> list[list[float]]:
    """What transformers makes of each text by itself: chosen, rejected."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **options).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [
        [
            read(model(**tokenizer.apply_chat_template(p["prompt"] + p[s], return_tensors="pt", return_dict=True)))
            for p in pairs
        ]
        for s in ("chosen", "rejected")
    ]


def agree(frame: pd.DataFrame, expected) -> None:
    for column, values in zip(("reward_chosen", "reward_rejected"), expected, strict=True):
        torch.testing.assert_close(torch.tensor(frame[column]).float(), torch.tensor(values), atol=1e-4, rtol=0)


def test_a_reward_is_that_of_a_plain_forward_on_the_single_text(tmp_path, base, pairs):
    folder = classifier(base, tmp_path / "rm")
    frame = run(tmp_path, spec(folder), {"en": pairs})["en"]
    expected = plainly(folder, pairs)
    agree(frame, expected)
    assert torch.tensor(expected).std() > 0.1
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(pairs[7]["prompt"] + pairs[7]["chosen"])[
        "input_ids"
    ]
    assert frame["tokens_chosen"][7] == len(ids)
    assert frame["id"].tolist() == [p["id"] for p in pairs]


def test_a_pad_token_that_ends_every_text_is_passed_over_as_transformers_does(tmp_path, bases, pairs):
    tokenizer = AutoTokenizer.from_pretrained(bases["llama"])
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    folder = classifier(bases["llama"], tmp_path / "rm", pad_token_id=end)
    frame = run(tmp_path, spec(folder), {"en": pairs})["en"]
    agree(frame, plainly(folder, pairs))


def test_one_of_several_outputs(tmp_path, bases, pairs):
    folder = classifier(bases["qwen"], tmp_path / "rm", num_labels=3)
    agree(
        run(tmp_path, spec(folder, output=2), {"en": pairs})["en"],
        plainly(folder, pairs, lambda output: output.logits[0, 2]),
    )
    with pytest.raises(StudyError, match=r"theirs.output: the model has 3 outputs; say which one"):
        run(tmp_path, spec(folder), {"en": pairs})
    with pytest.raises(StudyError, match=r"theirs.output: 3 is none of the model's 3 outputs"):
        run(tmp_path, spec(folder, output=3), {"en": pairs})


def test_a_head_of_its_own(tmp_path, custom, pairs):
    trusted = {"trust_remote_code": True}
    frame = run(tmp_path, spec(custom, output="score", **trusted), {"en": pairs})["en"]
    agree(frame, plainly(custom, pairs, lambda output: output.score[0], **trusted))
    frame = run(tmp_path, spec(custom, output=4, **trusted), {"en": pairs})["en"]
    agree(frame, plainly(custom, pairs, lambda output: output.logits[0, 4], **trusted))
    with pytest.raises(StudyError, match=r"theirs.output: the model returns no 'scores' but rewards, score, logits"):
        run(tmp_path, spec(custom, output="scores", **trusted), {"en": pairs})
    with pytest.raises(StudyError, match=r"theirs.output: the model has 5 outputs; say which"):
        run(tmp_path, spec(custom, output="rewards", **trusted), {"en": pairs})


def test_code_of_its_own_runs_only_when_trusted(tmp_path, custom, pairs):
    with pytest.raises(StudyError, match=r"read it, then set reward_models.theirs.trust_remote_code: true"):
        run(tmp_path, spec(custom, output="score"), {"en": pairs})
    config = json.loads((custom / "config.json").read_text())
    config["model_type"] = "unheard-of"
    config["auto_map"]["AutoConfig"] = "two_stories.TwoStoriesConfig"
    (custom / "config.json").write_text(json.dumps(config))
    with pytest.raises(StudyError, match=r"read it, then set reward_models.theirs.trust_remote_code: true"):
        run(tmp_path, spec(custom, output="score"), {"en": pairs})


def test_a_base_model_has_no_head_to_read(tmp_path, bases, pairs):
    with pytest.raises(StudyError, match=r"holds no score.weight, which would be random numbers"):
        run(tmp_path, spec(bases["gemma"]), {"en": pairs})


def test_a_missing_template_is_no_default(tmp_path, bases, pairs):
    folder = classifier(bases["qwen"], tmp_path / "rm")
    expected = run(tmp_path, spec(folder), {"en": pairs})["en"]
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(StudyError, match=r"no chat template; name a Jinja file in reward_models.theirs.chat_template"):
        run(tmp_path, spec(folder), {"en": pairs})
    given = run(tmp_path, spec(folder, chat_template=template), {"en": pairs})["en"]
    pd.testing.assert_frame_equal(given, expected)
    picky = (
        "{% if 'capital' in messages[0]['content'] %}{{ raise_exception('no capitals here') }}{% endif %}" + template
    )
    with pytest.raises(StudyError, match=r"refuses row 'r0' in en: no capitals here; remove the row"):
        run(tmp_path, spec(folder, chat_template=picky), {"en": pairs})
    with pytest.raises(StudyError, match=r"refuses a question with its answer: never; name another template"):
        run(tmp_path, spec(folder, chat_template="{{ raise_exception('never') }}"), {"en": pairs})


def test_the_day_that_a_template_is_told_decides_rewards_and_is_in_the_settings(tmp_path, bases, pairs):
    folder = classifier(bases["llama"], tmp_path / "rm")
    expected = run(tmp_path, spec(folder), {"en": pairs})["en"]
    assert "date" not in settings(tmp_path)
    dated = LLAMA.replace("{{ bos_token }}", "{{ bos_token }}{{ strftime_now('%d %b %Y') }}")
    found = []
    for day, options in (("2024-07-26", {}), ("2025-01-02", {"date": "2025-01-02"})):
        found.append(run(tmp_path, spec(folder, chat_template=dated, **options), {"en": pairs})["en"]["reward_chosen"])
        assert settings(tmp_path)["date"] == day
    assert len({tuple(rewards) for rewards in [*found, expected["reward_chosen"]]}) == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nan, "24 of 24 rewards on en are not finite numbers, the first on row 'r0'"),
        (0, "all 24 rewards on en are 0"),
    ],
)
def test_a_damaged_head(tmp_path, bases, pairs, value, message):
    folder = classifier(bases["gemma"], tmp_path / "rm")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight.fill_(value)
    model.save_pretrained(folder)
    with pytest.raises(StudyError, match=message):
        run(tmp_path, spec(folder), {"en": pairs})
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("limit", [None, 40])
def test_nothing_is_cut_off(tmp_path, bases, pairs, loads, limit):
    folder = classifier(bases["llama"], tmp_path / "rm")
    long = pair("long", "Why? " * 10, "No " * 600, "No " * 5)
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(long["prompt"] + long["chosen"])["input_ids"]
    message = rf"row 'long' in ko with its chosen answer has {len(ids):,} tokens, more than the {limit or 512} that"
    with pytest.raises(StudyError, match=message):
        run(tmp_path, spec(folder, **({"max_length": limit} if limit else {})), {"ko": [*pairs[:2], long]})
    assert not loads


def test_quantisation_is_asked_for_by_name_and_needs_a_gpu(tmp_path, bases, pairs):
    folder = classifier(bases["llama"], tmp_path / "llama-8bit")
    assert len(run(tmp_path, spec(folder), {"en": pairs})["en"]) == 12
    with pytest.raises(StudyError, match=r"theirs.quantization: '8bit' needs a GPU"):
        run(tmp_path, spec(folder, quantization="8bit"), {"en": pairs})


def test_precision_is_what_the_config_says(tmp_path, bases, pairs):
    folder = classifier(bases["llama"], tmp_path / "rm")
    exact = run(tmp_path, spec(folder), {"en": pairs})["en"]["reward_chosen"]
    rough = run(tmp_path, spec(folder, dtype="bfloat16", attention="eager"), {"en": pairs})["en"]["reward_chosen"]
    assert 0 < (exact - rough).abs().max() < 0.5
    named = settings(tmp_path)
    assert (named["dtype"], named["attention"]) == ("bfloat16", "eager")


def test_a_new_language_costs_one_language_and_a_second_run_no_model(tmp_path, bases, pairs, loads, monkeypatch):
    folder = classifier(bases["llama"], tmp_path / "rm")
    languages = []
    original = Classifier.rewards
    monkeypatch.setattr(
        Classifier, "rewards", lambda self, code, rows: (languages.append(code), original(self, code, rows))[1]
    )
    first = run(tmp_path, spec(folder), {"en": pairs, "es": pairs[:6]})
    assert (languages, len(loads)) == (["en", "es"], 1)
    second = run(tmp_path, spec(folder), {"en": pairs, "es": pairs[:6]}, budget=64)
    assert (languages, len(loads)) == (["en", "es"], 1)
    pd.testing.assert_frame_equal(first["en"], second["en"])
    run(tmp_path, spec(folder), {"en": pairs, "es": pairs[:6], "ko": pairs[3:5]})
    assert (languages, len(loads)) == (["en", "es", "ko"], 2)
    # Another head in the same folder is another model.
    classifier(bases["llama"], tmp_path / "other", num_labels=1)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight[0, 0] += 1
    model.save_pretrained(folder)
    run(tmp_path, spec(folder), {"en": pairs})
    assert languages == ["en", "es", "ko", "en"]


def test_a_text_that_comes_again_is_computed_once(tmp_path, bases, pairs, monkeypatch):
    """RewardBench 2 sets one chosen answer against several rejected ones."""
    folder = classifier(bases["llama"], tmp_path / "rm")
    texts = []
    original = Classifier._pooled
    monkeypatch.setattr(Classifier, "_pooled", lambda self, these: (texts.extend(these), original(self, these))[1])
    rows = [pair(f"i/0/{j}", "Which?", "This.", f"That {j}.") for j in range(3)]
    frame = run(tmp_path, spec(folder), {"en": rows})["en"]
    assert len(texts) == 4
    assert frame["reward_chosen"].nunique() == 1


def test_settings_say_what_decides_a_reward(tmp_path, bases, pairs):
    folder = classifier(bases["llama"], tmp_path / "rm", num_labels=2)
    run(tmp_path, spec(folder, output=1, revision="a" * 40), {"en": pairs, "es": pairs})
    named = settings(tmp_path)
    assert set(named) == {
        "kind",
        "path",
        "revision",
        "model",
        "output",
        "dtype",
        "attention",
        "quantization",
        "trust_remote_code",
        "chat_template_sha256",
        "max_length",
        "libraries",
    }
    assert named["libraries"] == {"torch": torch.__version__, "transformers": transformers.__version__}
    assert (named["dtype"], named["max_length"], named["output"]) == ("float32", 512, 1)


def test_a_model_that_is_not_there(tmp_path, pairs):
    with pytest.raises(StudyError, match=r"theirs: .* does not load \(AutoTokenizer\)"):
        run(tmp_path, spec(tmp_path), {"en": pairs})


@pytest.mark.parametrize("budget", [1, 100_000])
def test_neighbours_change_nothing(tmp_path, bases, pairs, budget):
    folder = classifier(bases["gemma"], tmp_path / "rm")
    agree(run(tmp_path, spec(folder), {"en": pairs}, budget=budget)["en"], plainly(folder, pairs))


@pytest.mark.parametrize("budget", [1, 100_000])
def test_neighbours_change_nothing_for_a_head_of_its_own(tmp_path, custom, pairs, budget):
    trusted = {"trust_remote_code": True}
    frame = run(tmp_path, spec(custom, output="score", **trusted), {"en": pairs}, budget=budget)["en"]
    agree(frame, plainly(custom, pairs, lambda output: output.score[0], **trusted))


def of_kind(kind: str, tokenizer, folder: Path, **more) -> Path:
    """A random sequence classifier with one output, of an architecture that transformers has."""
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    widen(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["Bert", "DebertaV2", "GPT2"])
def test_architectures_that_read_a_text_otherwise(tmp_path, bases, pairs, kind):
    """Encoders pool the first token; GPT-2's classifier has a forward pass of its own."""
    folder = of_kind(kind, AutoTokenizer.from_pretrained(bases["llama"]), tmp_path / kind)
    expected = plainly(folder, pairs)
    agree(run(tmp_path, spec(folder), {"en": pairs}, budget=100_000)["en"], expected)
    assert torch.tensor(expected).std() > 1e-3


def encoder(kind: str, folder: Path, **more) -> Path:
    """An encoder that has no chat template, as they are published."""
    return of_kind(
        kind, encoder_tokenizer(kind == "Roberta"), folder, **{"type_vocab_size": 1 if kind == "Roberta" else 2, **more}
    )


@pytest.mark.parametrize("kind", ["DebertaV2", "Bert", "Roberta"])
def test_question_and_answer_as_a_pair_as_the_model_card_says(tmp_path, pairs, kind):
    folder = encoder(kind, tmp_path / "rm")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        expected = [
            [
                model(**tokenizer(p["prompt"][0]["content"], p[side][0]["content"], return_tensors="pt"))
                .logits[0]
                .item()
                for p in pairs
            ]
            for side in ("chosen", "rejected")
        ]
    frame = run(tmp_path, spec(folder, pair=True), {"en": pairs}, budget=100_000)["en"]
    agree(frame, expected)
    assert torch.tensor(expected).std() > 1e-2
    assert settings(tmp_path)["pair"] is True
    question, answer = pairs[3]["prompt"][0]["content"], pairs[3]["chosen"][0]["content"]
    assert frame["tokens_chosen"][3] == len(tokenizer(question, answer)["input_ids"])


@pytest.mark.parametrize(("kind", "lost"), [("DebertaV2", r"no \[CLS\] and no \[SEP\]"), ("Roberta", "no </s>")])
def test_a_template_without_the_tokenizers_special_tokens(tmp_path, pairs, loads, kind, lost):
    folder = encoder(kind, tmp_path / "rm")
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    with pytest.raises(
        StudyError, match=rf"theirs: the chat template writes {lost}, .*theirs.pair: true.*theirs.chat_template"
    ):
        run(tmp_path, spec(folder, chat_template=template), {"en": pairs})
    assert not loads
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = f"{tokenizer.cls_token}{template}{tokenizer.sep_token}"
    tokenizer.save_pretrained(folder)
    agree(run(tmp_path, spec(folder), {"en": pairs}, budget=100_000)["en"], plainly(folder, pairs))


def test_a_pair_of_a_tokenizer_that_puts_nothing_between(tmp_path, bases, pairs):
    folder = classifier(bases["qwen"], tmp_path / "rm")
    with pytest.raises(
        StudyError, match=r"theirs.pair: the model's tokenizer puts nothing between two texts; remove it"
    ):
        run(tmp_path, spec(folder, pair=True), {"en": pairs})


def test_a_roberta_reads_two_tokens_less_than_it_has_positions(tmp_path, pairs):
    folder = encoder("Roberta", tmp_path / "rm", max_position_embeddings=42)
    words = [pair("r", "What?", "a" * count, "b") for count in (60, 35)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model(torch.full((1, 40), 5))  # what fits
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 41), 5))
    assert tokenizer("a")["input_ids"]
    with pytest.raises(StudyError, match=r"row 'r' .* has \d+ tokens, more than the 40 that the model reads"):
        run(tmp_path, spec(folder, pair=True), {"en": words})


def test_a_token_beyond_the_table(tmp_path, bases, pairs):
    """The tokenizer has one token more than the model."""
    folder = classifier(bases["llama"], tmp_path / "rm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    held = AutoModelForSequenceClassification.from_pretrained(folder).config.vocab_size
    tokenizer.add_tokens([f"<more{i}>" for i in range(held - len(tokenizer) + 1)], special_tokens=True)
    tokenizer.save_pretrained(folder)
    last = tokenizer.convert_ids_to_tokens(held)
    odd = pair("odd", "What?", f"It {last} is.", "No.")
    run(tmp_path, spec(folder), {"en": pairs})  # no text holds it
    with pytest.raises(
        StudyError, match=rf"row 'odd' in ko with its chosen answer holds token {held}, and the model knows"
    ):
        run(tmp_path, spec(folder), {"ko": [odd]})
