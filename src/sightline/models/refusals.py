"""What the shared-prompt forward does not cover, refused from a model's configuration, before weights are read.

Each refusal is one sentence that names the setting and says why. What passes here is still checked on the first batch
of a run.
"""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from sightline.models.families import FAMILIES

RECURRENT = ("linear_attention", "conv", "mamba", "recurrent")
"""Kinds of layers that carry a state from token to token."""


def refuse_model(config: PreTrainedConfig) -> None:
    """Raise ValueError when this configuration asks for something that is not covered."""
    text = config.get_text_config().to_dict()
    covered = frozenset().union(*(family.covers for family in FAMILIES if config.model_type in family.model_types))
    _refuse_dropout(config.to_dict())
    _refuse_experts(text)
    _refuse_layers(text, covered=covered)
    _refuse_attention(text, covered=covered)


def _refuse_dropout(values: Mapping[Any, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _refuse_dropout(value)
        elif ("dropout" in str(name) or "drop_path" in str(name)) and isinstance(value, (int, float)) and value > 0:
            raise ValueError(
                f"the model's config sets {name} to {value}: with dropout the shared prompt and the plain forward "
                "draw different masks and cannot be held to each other; set it to 0 in the model's config.json"
            )


def _refuse_experts(text: Mapping[str, Any]) -> None:
    """Experts are routed in competition, with losses over the whole batch; neither is held to the plain forward."""
    for name, value in text.items():
        if "expert" in name and isinstance(value, int) and not isinstance(value, bool) and value > 1:
            raise ValueError(
                f"the language model is a mixture of experts ({name} is {value}), and its balancing losses are not "
                "yet exact with a shared prompt, so such models are refused; use the dense model of the same family"
            )


def _refuse_layers(text: Mapping[str, Any], *, covered: frozenset[str]) -> None:
    """Layers that do not see the whole past; sliding windows are covered where a family is held to its twin."""
    kinds = text.get("layer_types")
    if kinds is None:
        kinds = ["sliding_attention"] if text.get("sliding_window") is not None else []
    odd = sorted(set(kinds) - {"full_attention"} - covered)
    if any(kind in RECURRENT for kind in odd):
        raise ValueError(
            f"the language model has recurrent layers ({odd[0]!r}), whose state after the prompt cannot be shared by "
            "several answers in one sequence, so such models are refused; use a model whose layers all attend"
        )
    if odd:
        raise ValueError(
            f"the language model has layers of type {odd[0]!r}, which the shared-prompt forward does not "
            "cover; it would be wrong on long prompts without a word, so such models are refused"
        )


def _refuse_attention(text: Mapping[str, Any], *, covered: frozenset[str]) -> None:
    for name in {"attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention"} - covered:
        if text.get(name):
            raise ValueError(
                f"the model's config sets {name} to {text[name]}, which the shared-prompt forward does not cover, so "
                "such models are refused"
            )
