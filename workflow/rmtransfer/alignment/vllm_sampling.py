"""Answers that vLLM samples: equal to ours in distribution alone, because vLLM's noise and rounding are its own.

https://docs.vllm.ai/en/stable/api/vllm/sampling_params
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rmtransfer.alignment.gumbel import seed_of
from rmtransfer.kit.errors import StudyError
from rmtransfer.models.device import inference_dtype, pick_device


class VllmSampler:
    """A policy in vLLM.

    Args:
        options: ``max_new_tokens, temperature, top_k, top_p``.
        stops, marker: see :func:`rmtransfer.models.chat.turn_end`.
        longest: tokens of the longest prompt.

    Raises:
        StudyError: vLLM is not installed.
    """

    def __init__(
        self, policy: Path, options: Mapping[str, Any], stops: Sequence[int], marker: str, longest: int, device: str
    ) -> None:
        try:
            import vllm
        except ImportError as problem:
            raise StudyError(
                f"alignment.engine: vllm cannot be imported ({problem}); install it into this environment, or set engine: "
                "transformers"
            ) from problem
        self._vllm, self._options, self._stops, self._marker = vllm, options, list(stops), marker
        self._model = vllm.LLM(
            model=str(policy),
            dtype=str(inference_dtype(pick_device(device))).removeprefix("torch."),
            max_model_len=longest + options["max_new_tokens"],
            generation_config="vllm",  # none of the policy's own penalties and ends
            enable_prefix_caching=True,  # the samples of a prompt share it
        )

    def __call__(self, prompts: Sequence[list[int]], keys: Sequence[str]) -> Iterator[list[tuple[int, list[int]]]]:
        """See :class:`rmtransfer.alignment.sampling.Sampler`."""
        generated = self._model.generate(
            [{"prompt_token_ids": ids} for ids in prompts],
            [
                self._vllm.SamplingParams(
                    temperature=self._options["temperature"],
                    top_k=self._options["top_k"],
                    top_p=self._options["top_p"],
                    seed=seed_of(key),
                    max_tokens=self._options["max_new_tokens"],
                    ignore_eos=True,  # what ends an answer is what ends the template's turn
                    stop_token_ids=self._stops,
                    stop=[self._marker] if self._marker else None,
                )
                for key in keys
            ],
        )
        # The ids hold the token, or the tokens of the text, that ended an answer; the text does not.
        yield [(i, list(result.outputs[0].token_ids)) for i, result in enumerate(generated)]
