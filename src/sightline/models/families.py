"""What differs between model families, one entry each: where the parts are and how an image becomes features.

Everything else in this room is written against `Family`. A new family is one entry here and one row in the
contract test. What is not listed is refused by name, never run on a guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How to reach the parts of a model. `model` is always the bare transformers model, adapters inside."""

    name: str
    """Short name for messages."""
    model_types: tuple[str, ...]
    """Values of `config.model_type` that belong here."""
    language_model: Callable[[nn.Module], nn.Module]
    """The decoder that turns embeddings into hidden states."""
    head: Callable[[nn.Module], nn.Module]
    """The linear layer from hidden states to the vocabulary."""
    tower: Callable[[nn.Module], nn.Module]
    """The image encoder."""
    projector: Callable[[nn.Module], nn.Module]
    """What maps its features into the language model."""
    image_token: Callable[[Any], int]
    """Id of the image placeholder, from the model's config."""
    media_tokens: Callable[[Any], tuple[int, ...]]
    """Ids that no answer may hold, from the model's config."""
    pixels: Callable[[Any, Pillow.Image], Tensor]
    """What the tower reads, from the processor and one picture."""
    num_image_tokens: Callable[[Any, Tensor], int]
    """Placeholders that an image with these pixels takes, from the processor."""
    encode: Callable[[nn.Module, Sequence[Tensor]], list[Tensor]]
    """Features of images, each [tokens, width], projector included."""


def _llava_pixels(processor: Any, picture: Pillow.Image) -> Tensor:
    return processor.image_processor([picture], return_tensors="pt")["pixel_values"][0]


def _llava_num_tokens(processor: Any, pixels: Tensor) -> int:
    _, height, width = pixels.shape
    patches = (height // processor.patch_size) * (width // processor.patch_size)
    without_class = processor.vision_feature_select_strategy == "default"
    return patches + processor.num_additional_image_tokens - int(without_class)


def _llava_encode(model: Any, pixels: Sequence[Tensor]) -> list[Tensor]:
    stacked = torch.stack(list(pixels))
    return list(model.model.get_image_features(pixel_values=stacked, return_dict=True).pooler_output)


LLAVA = Family(
    name="LLaVA",
    model_types=("llava",),
    language_model=lambda model: model.model.language_model,  # type: ignore[union-attr]
    head=lambda model: model.lm_head,  # type: ignore[union-attr]
    tower=lambda model: model.model.vision_tower,  # type: ignore[union-attr]
    projector=lambda model: model.model.multi_modal_projector,  # type: ignore[union-attr]
    image_token=lambda config: config.image_token_id,
    media_tokens=lambda config: (config.image_token_id,),
    pixels=_llava_pixels,
    num_image_tokens=_llava_num_tokens,
    encode=_llava_encode,
)

FAMILIES = (LLAVA,)


def family_of(model_type: str) -> Family:
    """The family of a model type; what is not known is refused with what is."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(t for family in FAMILIES for t in family.model_types)
    raise ValueError(
        f"models of type {model_type!r} are not supported by this version, which would have to guess how their prompt "
        f"and images are laid out; supported are: {known}"
    )
