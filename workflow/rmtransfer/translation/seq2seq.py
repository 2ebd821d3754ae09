"""Engine ``seq2seq``: NLLB, M2M100, MADLAD-400 and Opus-MT through transformers.

Sentence by sentence, because these models drop sentences when given several and degrade beyond about 200 tokens.
"""

import copy
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rmtransfer.kit import manifest
from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.models.options import check_model
from rmtransfer.study.languages import FLORES, primary
from rmtransfer.study.options import Commit, Count, Language, Options, Text
from rmtransfer.translation import Machine
from rmtransfer.translation.quality import CUT_OFF
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting

_CHARACTERS = 400  # of one stretch of prose: some 100 tokens in English, at most 400 in Chinese
_GROWTH, _ROOM = 3, 20  # an answer longer than 3 times its source and 20 tokens is a loop
_STEP = 16  # tokens; see _limits
_BEAMS_WHEN_CAREFUL = 5
_NO_REPEAT_WHEN_CAREFUL = 3
# Opus-MT names target languages by ISO 639-3 codes, some of them by script.
_OPUS = {"zh": ("cmn_Hans", "zho_Hans", "cmn", "zho"), "zh-Hant": ("cmn_Hant", "zho_Hant")}


class Seq2SeqOptions(Options):
    """An encoder-decoder model that translates."""

    model: Text
    """hub id or folder of an NLLB, M2M100, MADLAD-400 or Opus-MT model; {source} and {target} are filled in"""
    revision: Commit | None = None
    """commit of the hub model"""
    revisions: dict[Language, Commit] = {}
    """for a model with {source} or {target} in its name, target language to the commit of its hub model"""
    beams: Count = 4
    """hypotheses of beam search"""
    codes: dict[str, str] = {}
    """language to the model's own code for it, where ours is not it"""

    def name(self, source: str, target: str) -> str:
        """The model of a language pair."""
        return self.model.replace("{source}", primary(source)).replace("{target}", primary(target))

    def commit(self, source: str, target: str) -> str | None:
        """What pins the model of a language pair. On the way back the study's target is the language translated from."""
        return self.revisions.get(target) or self.revisions.get(source) if "{" in self.model else self.revision


class Seq2Seq:
    """Translate with an encoder-decoder model, batched by length."""

    Options = Seq2SeqOptions
    paid = False
    runs_a_model = needs_section = True

    def __init__(self, options: Seq2SeqOptions, source: str, target: str, machine: Machine) -> None:
        self.options, self.source, self.target, self.machine = options, source, target, machine
        self.splitting = Splitting("sentence", spans_inside=False, limit=_CHARACTERS)
        self.lock = f"seq2seq.{source}-{target}"
        self.name = options.name(source, target)
        self.beams = options.beams
        self.careful = False
        self._loaded: tuple[Any, Any] | None = None
        self._prefix = ""
        self._first_token: int | None = None

    @staticmethod
    def check(
        options: Seq2SeqOptions, target: str, study_bases: Collection[str], source: str, root: Path
    ) -> Iterator[str]:
        """See :class:`rmtransfer.translation.Engine`."""
        options = Seq2SeqOptions.model_validate(options)
        pinned_by = f"revisions.{target}" if "{" in options.model else "revision"
        directions = ((source, target), (target, source))
        # A section for the way back names the folder of the other direction.
        names = dict.fromkeys(options.name(*pair) for pair in directions)
        folders = [name for name in names if (root / Path(name).expanduser()).is_dir()]
        for model in folders or [options.model]:
            commit = options.commit(source, target)
            yield from check_model(model, commit, "translation.seq2seq.model", pinned_by, (), root)

    @staticmethod
    def files(options: Seq2SeqOptions) -> list[str]:
        """See :class:`rmtransfer.translation.Engine`."""
        return []

    @property
    def scope(self) -> Scope:
        """See :class:`rmtransfer.translation.Engine`."""
        settings: dict[str, Any] = {"model": self._identity, "beams": self.beams}
        if self.options.codes:
            settings["codes"] = self.options.codes
        if self.careful:
            settings["no_repeat"] = _NO_REPEAT_WHEN_CAREFUL
        return Scope("seq2seq", settings, self.source, self.target)

    @cached_property
    def _identity(self) -> str:
        return manifest.identity(self.name, self.options.commit(self.source, self.target), self.machine.root)

    def safer(self) -> "Seq2Seq | None":
        """A wider beam that may not repeat three words."""
        if self.careful:
            return None
        again = copy.copy(self)
        again.careful, again.beams = True, max(self.beams, _BEAMS_WHEN_CAREFUL)
        return again

    def translate(self, prose: Sequence[str]) -> Iterator[dict[str, Translation]]:
        """See :class:`rmtransfer.translation.Engine`."""
        from transformers import MarianTokenizer

        from rmtransfer.models.decoding import DECODING_FACTOR, decode

        tokenizer, model = self._load()
        sequences = [tokenizer(self._prefix + text)["input_ids"] for text in prose]
        limits = _limits(sequences)
        # The encoder reads a batch in one pass: half of what a decoder that sees a token at a time may have.
        budget = max(1, self.machine.tokens_per_batch * DECODING_FACTOR // (2 * self.beams))
        for batch in decode(
            model,
            sequences,
            limits,
            _batches(sequences, limits, budget),
            pad=tokenizer.pad_token_id,
            stops=[tokenizer.eos_token_id],
            num_beams=self.beams,
            early_stopping=self.beams > 1,
            no_repeat_ngram_size=_NO_REPEAT_WHEN_CAREFUL if self.careful else 0,
            forced_bos_token_id=self._first_token,
            decoder_start_token_id=model.config.decoder_start_token_id,
            # Marian may otherwise generate its pad token, which it starts from.
            bad_words_ids=[[tokenizer.pad_token_id]] if isinstance(tokenizer, MarianTokenizer) else None,
        ):
            answers = {}
            for index, ids in batch:
                written = ids[self._first_token is not None :]  # the first may name the language, which is no text
                text = tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                # An end at the limit itself is one that the model was made to put there.
                done = tokenizer.eos_token_id in written[: limits[index] - 1]
                answers[prose[index]] = Translation(text.strip(), () if done else (CUT_OFF,))
            yield answers

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

            from rmtransfer.models.device import inference_dtype, pick_device

            commit = self.options.commit(self.source, self.target)
            location, revision = manifest.located(self.name, commit, self.machine.root)
            device = pick_device(self.machine.device)
            try:
                tokenizer = AutoTokenizer.from_pretrained(location, revision=revision)
                model = AutoModelForSeq2SeqLM.from_pretrained(
                    location, revision=revision, dtype=inference_dtype(device)
                )
            except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
                raise StudyError(
                    f"translation.seq2seq.model: {self.name!r} does not load as an encoder-decoder model: "
                    f"{first_line(problem)}"
                ) from problem
            self._set_languages(tokenizer)
            self._loaded = tokenizer, model.to(device).eval()
        return self._loaded

    def _set_languages(self, tokenizer: Any) -> None:
        """Tell the model the languages, each family in its own way.

        Raises:
            StudyError: the model does not know one of them.
        """
        from transformers import MarianTokenizer, NllbTokenizer
        from transformers.models.m2m_100.tokenization_m2m_100 import M2M100Tokenizer

        codes = self.options.codes
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


def _limits(sequences: Sequence[Sequence[int]]) -> list[int]:
    """The most new tokens of each answer: by its own length in steps of 16 tokens."""
    return [_GROWTH * -(-len(sequence) // _STEP) * _STEP + _ROOM for sequence in sequences]


def _batches(sequences: Sequence[Sequence[int]], limits: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of batches within a token budget.

    A batch has one limit: what a model does that runs into it does not depend on the texts beside it.
    """
    from rmtransfer.models.batching import length_batches

    for limit in sorted(set(limits), reverse=True):
        members = [i for i, own in enumerate(limits) if own == limit]
        for batch in length_batches([len(sequences[i]) for i in members], budget):
            yield [members[i] for i in batch]
