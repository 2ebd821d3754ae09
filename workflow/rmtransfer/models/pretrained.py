"""Base-model source for anything that ``from_pretrained`` loads: a local folder, or a model of the hub at a commit."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmtransfer.kit.collector import uncollected
from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.models.folders import problem_of
from rmtransfer.models.options import check_model, check_template
from rmtransfer.study.options import Commit, Options, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Other libraries' weights, which can be as large again as the model's own.
_ADAPTER = "adapter_config.json"  # of what PEFT saves
_NOT_READ = ["original/*", "*.pth", "*.onnx", "*.h5", "*.msgpack"]


class PretrainedOptions(Options):
    """A base model from a folder or the hub."""

    path: Text
    """a local folder, or a hub id"""
    revision: Commit | None = None
    """commit of the hub model"""
    chat_template: Text | None = None
    """Jinja file; needed where the tokenizer brings no template of its own"""


class PolicyOptions(PretrainedOptions):
    """A model that answers instructions: one of base_models by its name, a folder or the hub's; with an adapter or without."""

    adapter: Text | None = None
    """LoRA that is merged into it: a folder in the format of PEFT, or a hub id"""
    adapter_revision: Commit | None = None
    """commit of the adapter, if it is on the hub"""


class Pretrained:
    """A causal language model in the Hugging Face format."""

    Options, Policy = PretrainedOptions, PolicyOptions

    @staticmethod
    def check(options: PretrainedOptions, key: str, root: Path) -> Iterator[str]:
        """Problems of a config entry, as sentences."""
        yield from check_model(options.path, options.revision, f"{key}.path", "revision", (), root, "training")
        yield from check_template(options.chat_template, key, root)

    @staticmethod
    def check_policy(options: PolicyOptions, key: str, bases: Collection[str], root: Path) -> Iterator[str]:
        """Problems of a policy's config entry, as sentences."""
        yield from check_model(options.path, options.revision, f"{key}.path", "revision", bases, root)
        yield from check_template(options.chat_template, key, root)
        if options.adapter is None:
            return
        folder = root / Path(options.adapter).expanduser()
        if folder.is_dir():
            if not (folder / _ADAPTER).is_file():
                yield f"{key}.adapter: {options.adapter!r} holds no {_ADAPTER}; name the folder that PEFT saved"
        elif options.adapter.startswith(("./", "../", "/", "~")):
            yield f"{key}.adapter: {options.adapter!r} is not a folder; correct the path"
        elif options.adapter_revision is None:
            yield f"{key}.adapter: {options.adapter!r} has no adapter_revision; add the adapter's commit, a branch can move"

    @staticmethod
    def load(options: PretrainedOptions, key: str, root: Path, work: Path) -> tuple[Any, PreTrainedTokenizerBase]:
        """Model and tokenizer.

        Raises:
            StudyError: it is no causal language model, or a damaged one.
        """
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

        folder = root / Path(options.path).expanduser()
        location = str(folder) if folder.is_dir() else _download(options, key)
        try:
            config = AutoConfig.from_pretrained(location)
        except (OSError, ValueError) as problem:
            raise StudyError(f"{key}.path: cannot read a model from {location!r}: {first_line(problem)}") from problem
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise StudyError(
                f"{key}.path: {location!r} is not a causal language model that transformers knows (model_type "
                f"{config.model_type}); name one, such as Qwen/Qwen2.5-3B-Instruct"
            )
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(location, dtype="auto", output_loading_info=True)
            with uncollected():
                tokenizer = AutoTokenizer.from_pretrained(location)
        except ImportError as problem:
            raise StudyError(
                f"{key}.path: {location!r} needs a package that is not here ({first_line(problem)}); install it, or name another base"
            ) from problem
        except Exception as problem:  # safetensors, torch and tokenizers each raise their own for a damaged file
            raise StudyError(
                f"{key}.path: the checkpoint {location!r} is damaged or incomplete: {first_line(problem)}"
            ) from problem
        model, found = loaded
        missing = sorted(found["missing_keys"])
        if missing:
            raise StudyError(
                f"{key}.path: {location!r} is not a causal language model (model_type {config.model_type}, architecture "
                f"{', '.join(config.architectures or ()) or 'not named'}): it holds no {missing[0]}; name the checkpoint of one"
            )
        return _with_adapter(model, options, key, root), tokenizer


def _with_adapter(model: Any, options: PretrainedOptions, key: str, root: Path) -> Any:
    """The model with a policy's adapter merged into it."""
    adapter = getattr(options, "adapter", None)
    if adapter is None:
        return model
    from peft import PeftModel

    assert isinstance(options, PolicyOptions)
    folder = root / Path(adapter).expanduser()
    location = str(folder) if folder.is_dir() else _fetch(adapter, options.adapter_revision, f"{key}.adapter")
    try:
        adapted: Any = PeftModel.from_pretrained(model, location)
        return adapted.merge_and_unload(safe_merge=True)
    except Exception as problem:  # peft, safetensors and torch each raise their own
        raise StudyError(
            f"{key}.adapter: {adapter!r} does not go onto {options.path!r}: {first_line(problem)}; name an adapter that was "
            "trained on this model"
        ) from problem


def _download(options: PretrainedOptions, key: str) -> str:
    """A hub model's folder, looked at as a folder of the user's is at the config check."""
    found = _fetch(options.path, options.revision, f"{key}.path")
    if no_base := problem_of(Path(found), "training"):
        raise StudyError(f"{key}.path: {options.path!r} at revision {options.revision!r} {no_base}")
    return found


def _fetch(model: str, revision: str | None, key: str) -> str:
    """The folder of a hub model in the cache of the hub's client."""
    import huggingface_hub

    try:
        return str(huggingface_hub.snapshot_download(model, revision=revision, ignore_patterns=_NOT_READ))
    except Exception as problem:  # the client, the network and the server each raise their own
        raise StudyError(
            f"{key}: {model!r} at revision {revision!r} cannot be downloaded: {first_line(problem)}; correct it, or log in with "
            "huggingface-cli"
        ) from problem
