"""What differs between model families: where the parts are, how a picture is read, what the prompt does with it.

`Family` is the record, one value of it per family. The defaults are those of a plain family: positions count tokens,
attention is causal, one placeholder token per feature and nothing around it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from sightline.batch import PromptTokens
from sightline.rewards.boxes import Space

Grid = tuple[int, ...]
Bounds = tuple[int, int | None]
"""Least and most pixels of a picture as the model sees it; None for no end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One picture as the model's own processor gives it."""

    pixels: Tensor
    """What the tower reads."""
    grid: Grid = ()
    """How the family lays it out, where `pixels` does not say it: patches, tiles, or the picture's size."""
    size: tuple[int, int]
    """Width and height of the frame that boxes in "seen" pixels lie in."""


def image_token_named_image(tokenizer: Any) -> str:
    """The tokenizer's own image token, else "<image>"."""
    return tokenizer.special_tokens_map.get("image_token", "<image>")


def media_of(config: Any) -> tuple[int, ...]:
    """Ids of the image and, where there is one, the video placeholder."""
    named = config.to_dict()
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    return tuple(sorted({named[name] for name in names if named.get(name) is not None}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How to reach the parts of a model. `model` is always the bare transformers model, adapters inside."""

    name: str
    """Short name for messages."""
    model_types: tuple[str, ...]
    """Values of `config.model_type` that belong here."""
    language_model: Callable[[nn.Module], nn.Module]
    """The decoder that turns embeddings into hidden states."""
    tower: Callable[[nn.Module], nn.Module]
    """The image encoder; the projector may sit inside."""
    projector: Callable[[nn.Module], nn.Module]
    """What maps its features into the language model."""
    look: Callable[[Any, Pillow.Image, bool], Look]
    """What the model sees of a picture, from the processor; the flag says whether it is alone in its prompt."""
    spell: Callable[[Any, Look], str]
    """The text that stands for a picture in the prompt: as many soft tokens as features, and what is around them."""
    encode: Callable[[nn.Module, Sequence[Tensor], Sequence[Grid]], list[Tensor]]
    """Features of images, projector included: each [tokens, width]; [tokens, (1 + deep) width] with deep ones."""
    plain: Callable[[Any, Tensor, Sequence[PromptTokens]], dict[str, Tensor]]
    """More arguments of the model's own forward, from its config, the ids [N, L] and the prompt of each row."""
    boxes: Space | None
    """Frame of boxes that its published checkpoints write; None where none is documented."""
    head: Callable[[nn.Module], nn.Module] = lambda model: model.lm_head  # type: ignore[assignment, return-value]
    """The linear layer from hidden states to the vocabulary."""
    image_token: Callable[[Any], int] = lambda config: config.image_token_id
    """Id of the soft token, whose place a feature takes, from the model's config."""
    media_tokens: Callable[[Any], tuple[int, ...]] = media_of
    """Ids that no answer may hold, from the model's config."""
    marker: Callable[[Any], str] = image_token_named_image
    """What the chat template writes for a picture, from the tokenizer."""
    soft_token: Callable[[Any], str] = image_token_named_image
    """The soft token, from the tokenizer."""
    positions: Callable[[Any, PromptTokens], Tensor] | None = None
    """Positions of a prompt's tokens, [tokens] or [axes, tokens], from the model's config; None counts from zero."""
    joined: Callable[[Any, PromptTokens], Tensor] | None = None
    """[tokens] number of the block whose tokens see each other both ways, -1 outside; None where there are none."""
    deep: Callable[[list[Tensor]], Mapping[str, Any]] | None = None
    """Arguments of the language model by which deep features enter, each [1, places, width], zero where no image is."""
    covers: frozenset[str] = frozenset()
    """What is held to the twin beyond plain causal layers: kinds of layers, or names of settings."""
    within: Callable[[Any, Pillow.Image, bool, Bounds], Look] | None = None
    """`look`, resized once by the processor to what lies within bounds; None where the processor gives every picture
    the same frames."""
    company: bool = False
    """Whether a picture is read otherwise when there are others in its prompt."""


def stacked(pixels: Sequence[Tensor]) -> Tensor:
    """Pictures of one size as one tensor."""
    return torch.stack(list(pixels))


def joined_images(config: Any, prompt: PromptTokens) -> Tensor:
    """Each run of soft tokens is a block of its own."""
    soft = torch.as_tensor(prompt.ids) == config.image_token_id
    starts = soft & ~torch.cat([soft.new_zeros(1), soft[:-1]])
    return torch.where(soft, starts.long().cumsum(0) - 1, -1)


def images_of(prompts: Sequence[PromptTokens]) -> tuple[list[Tensor], list[Grid]]:
    """Pixels and grids of all images of these prompts, in reading order."""
    images = [image for prompt in prompts for image in prompt.images]
    return [image.load() for image in images], [image.grid for image in images]
