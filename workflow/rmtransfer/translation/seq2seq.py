"""Engine ``seq2seq``: NLLB, M2M100, MADLAD-400 and Opus-MT through transformers.

Sentence by sentence, because these models drop sentences when given several and degrade beyond about 200 tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, MarianTokenizer, NllbTokenizer
from transformers.models.m2m_100.tokenization_m2m_100 import M2M100Tokenizer

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.batching import length_batches, right_padded
from rmtransfer.models.device import inference_dtype, pick_device
from rmtransfer.study.languages import FLORES, primary
from rmtransfer.translation.local_model import CUT_OFF, model_identity
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting

_CHARACTERS = 400  # of one stretch of prose: some 100 tokens in English, at most 400 in Chinese
_GROWTH, _ROOM = 3, 20  # an answer longer than 3 times its source and 20 tokens is a loop
_STEP = 16  # tokens; see _limited_batches
_BEAMS_WHEN_CAREFUL = 5
_DECODING_FACTOR = 4  # decoding holds one position a row at a time, so that more rows fit than in one forward pass
# Opus-MT names target languages by ISO 639-3 codes, some of them by script.
_OPUS = {"zh": ("cmn_Hans", "zho_Hans", "cmn", "zho"), "zh-Hant": ("cmn_Hant", "zho_Hant")}


class Seq2Seq:
    """Translate with an encoder-decoder model, batched by length.

    Args:
        options: the config's ``translation.seq2seq``: ``model`` (hub id or folder; ``{source}`` and ``{target}`` are
            filled in), ``revision``, ``beams``, ``codes`` (language to the model's own code, where ours is wrong).
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        source: str,
        target: str,
        root: Path,
        *,
        tokens_per_batch: int,
        device: str = "auto",
        careful: bool = False,
    ) -> None:
        self.options, self.source, self.target, self.root = options, source, target, root
        self.tokens_per_batch, self.device, self.careful = tokens_per_batch, device, careful
        self.splitting = Splitting("sentence", spans_inside=False, limit=_CHARACTERS)
        self.name = options["model"].replace("{source}", primary(source)).replace("{target}", primary(target))
        self.beams = max(options["beams"], _BEAMS_WHEN_CAREFUL) if careful else options["beams"]
        settings: dict[str, Any] = {
            "model": model_identity(self.name, options.get("revision"), root),
            "beams": self.beams,
        }
        if options.get("codes"):
            settings["codes"] = dict(options["codes"])
        if careful:
            settings["no_repeat"] = 3
        self.scope = Scope("seq2seq", settings, source, target)
        self.lock = f"seq2seq.{source}-{target}"
        self._loaded: tuple[Any, Any] | None = None
        self._prefix = ""
        self._first_token: int | None = None

    def safer(self) -> "Seq2Seq | None":
        """A wider beam that may not repeat three words."""
        if self.careful:
            return None
        again = Seq2Seq(
            self.options,
            self.source,
            self.target,
            self.root,
            tokens_per_batch=self.tokens_per_batch,
            device=self.device,
            careful=True,
        )
        again._loaded, again._prefix, again._first_token = self._loaded, self._prefix, self._first_token
        return again

    @torch.inference_mode()
    def translate(self, prose: Sequence[str]) -> Iterator[dict[str, Translation]]:
        """See :class:`rmtransfer.translation.Engine`."""
        tokenizer, model = self._load()
        sequences = [tokenizer(self._prefix + text)["input_ids"] for text in prose]
        budget = max(1, self.tokens_per_batch * _DECODING_FACTOR // self.beams)
        for limit, batch in _limited_batches([len(s) for s in sequences], budget):
            ids, mask = right_padded([sequences[i] for i in batch], tokenizer.pad_token_id)
            generated = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=GenerationConfig(
                    num_beams=self.beams,
                    do_sample=False,
                    early_stopping=self.beams > 1,
                    max_new_tokens=limit,
                    no_repeat_ngram_size=3 if self.careful else 0,
                    forced_bos_token_id=self._first_token,
                    decoder_start_token_id=model.config.decoder_start_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                    # Marian may otherwise generate its pad token, which it starts from.
                    bad_words_ids=[[tokenizer.pad_token_id]] if isinstance(tokenizer, MarianTokenizer) else None,
                ),
            )
            # The first token starts the decoder, the second may name the language; neither is text.
            generated = generated[:, 1 + (self._first_token is not None) :]
            texts = tokenizer.batch_decode(generated, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            answers = {}
            for index, row, text in zip(batch, generated.tolist(), texts, strict=True):
                # An end at the limit itself is one that the model was made to put there.
                done = tokenizer.eos_token_id in row[: limit - 1]
                answers[prose[index]] = Translation(text.strip(), () if done else (CUT_OFF,))
            yield answers

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            folder = self.root / Path(self.name).expanduser()
            name = str(folder) if folder.is_dir() else self.name
            revision = None if folder.is_dir() else self.options.get("revision")
            where = pick_device(self.device)
            try:
                tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
                model = AutoModelForSeq2SeqLM.from_pretrained(name, revision=revision, dtype=inference_dtype(where))
            except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
                first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
                raise StudyError(
                    f"translation.seq2seq.model: {self.name!r} does not load as an encoder-decoder model: {first}"
                ) from problem
            self._set_languages(tokenizer)
            self._loaded = tokenizer, model.to(where).eval()
        return self._loaded

    def _set_languages(self, tokenizer: Any) -> None:
        """Tell the model the languages, each family in its own way.

        Raises:
            StudyError: the model does not know one of them.
        """
        codes = self.options.get("codes") or {}
        vocabulary = tokenizer.get_vocab()
        if isinstance(tokenizer, NllbTokenizer):
            known = {t for t in vocabulary if len(t) == 8 and t[3] == "_"}
            tokenizer.src_lang = self._known(self.source, codes.get(self.source, FLORES.get(self.source)), known)
            target = self._known(self.target, codes.get(self.target, FLORES.get(self.target)), known)
            self._first_token = tokenizer.get_vocab()[target]
        elif isinstance(tokenizer, M2M100Tokenizer):
            known = set(tokenizer.lang_code_to_id)
            tokenizer.src_lang = self._known(self.source, codes.get(self.source, primary(self.source)), known)
            target = self._known(self.target, codes.get(self.target, primary(self.target)), known)
            self._first_token = tokenizer.get_lang_id(target)
        elif isinstance(tokenizer, MarianTokenizer):
            known = {t[2:-2] for t in tokenizer.supported_language_codes}
            if known:  # a model for one pair names no language
                iso = FLORES.get(self.target, "")[:3]
                guesses = [*_OPUS.get(self.target, ()), iso, FLORES.get(self.target), primary(self.target)]
                guess = next((g for g in guesses if g in known), None)
                self._prefix = f">>{self._known(self.target, codes.get(self.target, guess), known)}<< "
        else:
            known = {t[2:-1] for t in vocabulary if t.startswith("<2") and t.endswith(">")}
            if not known:
                raise StudyError(
                    f"translation.seq2seq.model: {self.name!r} ({type(tokenizer).__name__}) is of no family that this "
                    "engine knows: NLLB, M2M100, MADLAD-400, Opus-MT"
                )
            self._prefix = f"<2{self._known(self.target, codes.get(self.target, primary(self.target)), known)}> "

    def _known(self, language: str, code: str | None, known: set[str]) -> str:
        if code not in known:
            raise StudyError(
                f"translation.seq2seq.model: {self.name!r} does not know {language!r} (as {code!r}); name its own code in "
                f"translation.seq2seq.codes.{language}, or choose another engine in translation.languages.{language}. It "
                f"knows {', '.join(sorted(known)[:12])}{', ...' if len(known) > 12 else ''}"
            )
        return code


def _limited_batches(lengths: Sequence[int], budget: int) -> Iterator[tuple[int, list[int]]]:
    """(most new tokens, indices) of batches within a token budget.

    The limit goes by a text's own length in steps of 16 tokens, and a batch has one limit: what a model does that runs
    into it does not depend on the texts beside it.
    """
    steps = [-(-length // _STEP) for length in lengths]
    for step in sorted(set(steps), reverse=True):
        members = [i for i, s in enumerate(steps) if s == step]
        for batch in length_batches([lengths[i] for i in members], budget):
            yield _GROWTH * step * _STEP + _ROOM, [members[i] for i in batch]
