"""Download a model of the hub once, so that later jobs need no network."""

from pathlib import Path

from rmtransfer.kit import stages
from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.kit.manifest import NAME, write_manifest
from rmtransfer.models.folders import Use, problem_of

_NO_WEIGHTS = ["*.safetensors", "*.bin", "*.gguf", "*.pt", "*.pth", "*.onnx", "*.h5", "*.msgpack"]


def fetch_model(model: str, revision: str, output: Path, *, tokenizer_only: bool = False) -> None:
    """Download what a model is at a revision of the hub; its manifest, last, saves later jobs from hashing the weights.

    Args:
        tokenizer_only: leave the weights there.

    Raises:
        StudyError: there is no such model or revision, no access to it, or no model in it.
    """
    import huggingface_hub

    try:
        huggingface_hub.snapshot_download(
            model, revision=revision, local_dir=output, ignore_patterns=_NO_WEIGHTS if tokenizer_only else None
        )
    except Exception as problem:  # the client, the network and the server each raise their own
        raise StudyError(
            f"model {model!r} at revision {revision!r} cannot be downloaded: {first_line(problem)}; correct reward_models, or "
            "log in with huggingface-cli"
        ) from problem
    use: Use = "tokenizer" if tokenizer_only else "ours" if (output / NAME).is_file() else "weights"
    if no_model := problem_of(output, use):
        raise StudyError(f"model {model!r} at revision {revision!r} {no_model}")
    source = {"model": model, "revision": revision, "tokenizer_only": tokenizer_only}
    write_manifest(output, {"stage": "fetch_model", "version": stages.BASE_MODEL.version, "source": source})
