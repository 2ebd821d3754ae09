"""How fast the seq2seq engine translates, against one sentence at a time through stock transformers.

    PYTHONPATH=workflow .venv/bin/python benchmarks/translation_speed.py [--model FOLDER_OR_HUB_ID]

Without a model it builds an NLLB-shaped one of random weights (6 + 6 layers of 512 units), so that nothing is downloaded;
both ways then write until the same limit.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

from rmtransfer.translation import Machine
from rmtransfer.translation.seq2seq import Seq2Seq, Seq2SeqOptions, _limits
from rmtransfer.translation.structure import split_text


def main() -> None:
    """Print seconds both ways on the same sentences, and how many translations agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--target", default="es")
    parser.add_argument("--sentences", type=int, default=96)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--tokens-per-batch", type=int, default=2048)
    arguments = parser.parse_args()
    lines = Path("resources/sample/preferences.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["chosen"] for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or str(_random_model(Path(folder) / "model", texts))
        engine = Seq2Seq(
            Seq2SeqOptions(model=model, beams=arguments.beams),
            "en",
            arguments.target,
            Machine(Path.cwd(), arguments.tokens_per_batch),
        )
        parts = [part for text in texts for part in split_text(text, "en", engine.splitting)]
        prose = list(dict.fromkeys(p.text for p in parts if p.kind == "prose"))[: arguments.sentences]
        tokenizer, loaded = engine._load()

        began = time.perf_counter()
        together = {text: answer.text for batch in engine.translate(prose) for text, answer in batch.items()}
        batched = time.perf_counter() - began

        same = 0
        began = time.perf_counter()
        for text in prose:
            inputs = tokenizer(engine._prefix + text, return_tensors="pt").to(loaded.device)
            (limit,) = _limits(inputs["input_ids"].tolist())
            with torch.inference_mode():
                out = loaded.generate(
                    **inputs,
                    num_beams=arguments.beams,
                    do_sample=False,
                    max_new_tokens=limit,
                    forced_bos_token_id=engine._first_token,
                )
            skip = 1 + (engine._first_token is not None)
            same += tokenizer.decode(out[0, skip:], skip_special_tokens=True).strip() == together[text]
        alone = time.perf_counter() - began
    print(
        f"{len(prose)} sentences: {batched:.1f} s batched by length, {alone:.1f} s one at a time, "
        f"{alone / batched:.1f} times as long; {same} of {len(prose)} translations are the same"
    )


def _random_model(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=1200,
        hard_vocab_limit=False,
        model_type="bpe",
        minloglevel=2,
    )
    tokenizer = NllbTokenizer.from_pretrained(folder, additional_special_tokens=["eng_Latn", "spa_Latn"])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "d_model": 512,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_ffn_dim": 2048,
        "decoder_ffn_dim": 2048,
        "encoder_attention_heads": 8,
        "decoder_attention_heads": 8,
    }
    M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
