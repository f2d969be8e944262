"""A model's shape from its configuration alone: nothing is downloaded but config and processor, nothing is computed.

The model is built on torch's meta device, whose tensors have sizes and no values, so that what is asked of a loaded
model (parts, trained parameters, adapters) can be asked before any weight is read. Knows nothing of runs.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from sightline.models.arithmetic import AUTO, DTYPES, dtype_of
from sightline.models.families import family_of
from sightline.models.load import Loaded
from sightline.models.processor import load_processor
from sightline.models.refusals import refuse_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A transformer's sizes: the language model's or the tower's."""

    width: int
    """Of its hidden states."""
    mlp: int
    """Of the layer inside its MLP."""
    layers: int
    """How many."""
    heads: int
    """Attention heads."""
    kv_width: int
    """Of keys, and of values, over all heads."""
    weights: int
    """Numbers in its matrices, adapters included: a token costs twice as many operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a model weighs and how large its parts are."""

    language: Stack
    """The language model."""
    tower: Stack
    """The image encoder."""
    vocabulary: int
    """Rows of the head."""
    context: int | None
    """Tokens that the language model was made for."""
    patches_per_token: int
    """Patches in the tower that become one token of the language model."""
    weight_bytes: int
    """Of all parameters as they lie in memory."""
    trained: int
    """Numbers that are trained."""
    trained_matrices: bool
    """Whether the language model's own matrices are trained, not adapters beside them."""
    trained_vision: bool
    """Whether tower or projector are trained."""


def load_outline(
    path: str, *, revision: str | None = None, dtype: str = AUTO, trust_remote_code: bool = False
) -> Loaded:
    """The model at a folder or hub id without its weights; its processor is real."""
    where = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(path, **where)
        refuse_model(config)
        family = family_of(config.model_type)
        processor = load_processor(path, **where)
    except OSError as error:
        known = "a folder with config.json, or the id of a model on the hub that this machine can reach"
        why = str(error).strip().splitlines()[0].rstrip(".")[:200]
        raise ValueError(f"model.path: {path!r} could not be loaded ({why}); give {known}") from error
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            config, dtype=DTYPES[dtype_of(dtype)], attn_implementation="sdpa"
        )
    with suppress(OSError):  # a checkpoint without one ends answers as its configuration says
        model.generation_config = GenerationConfig.from_pretrained(path, revision=revision or "main")
    model.requires_grad_(False)
    model.eval()
    return Loaded(model=model, processor=processor, family=family, dtype=dtype_of(dtype))


def sizes_of(loaded: Loaded) -> Sizes:
    """The sizes of a model, loaded or in outline."""
    model, family = loaded.model, loaded.family
    config = model.config.to_dict()
    text = model.config.get_text_config().to_dict()
    language_model, head = family.language_model(model), family.head(model)
    assert isinstance(head.weight, torch.Tensor)
    trained = loaded.trained()
    vision_parts = (family.tower(model), family.projector(model))
    return Sizes(
        language=_stack(language_model, text),
        tower=_stack(vision_parts[0], config["vision_config"]),
        vocabulary=head.weight.shape[0],
        context=text.get("max_position_embeddings"),
        patches_per_token=_patches_per_token(config),
        weight_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        trained=sum(p.numel() for p in trained.values()),
        trained_matrices=any(p.requires_grad for n, p in language_model.named_parameters() if "lora_" not in n),
        trained_vision=any(p.requires_grad for part in vision_parts for p in part.parameters()),
    )


def _stack(part: nn.Module, config: Mapping[str, Any]) -> Stack:
    """Sizes under the names that configurations use for them."""

    def named(*names: str) -> int:
        found = next((config[name] for name in names if config.get(name) is not None), 0)
        return int(found[0] if isinstance(found, list) else found)

    width = named("embed_dim", "hidden_size")
    heads = named("num_attention_heads", "num_heads") or 1
    head_width = named("head_dim") or width // heads
    mlp = named("intermediate_size") or int(width * float(config.get("mlp_ratio") or 4))
    return Stack(
        width=width,
        mlp=mlp,
        layers=named("num_hidden_layers", "depth"),
        heads=heads,
        kv_width=(named("num_key_value_heads") or heads) * head_width,
        weights=sum(m.weight.numel() for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)),
    )


def _patches_per_token(config: Mapping[str, Any]) -> int:
    """Families that merge patches say so under one of these names."""
    vision = config["vision_config"]
    side = vision.get("spatial_merge_size") or config.get("scale_factor") or 1
    if config.get("downsample_ratio"):
        side = round(1 / config["downsample_ratio"])
    if config.get("mm_tokens_per_image"):
        return max(1, (vision["image_size"] // vision["patch_size"]) ** 2 // config["mm_tokens_per_image"])
    return int(side) ** 2
