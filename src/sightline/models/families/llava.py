"""LLaVA and LLaVA-OneVision: a CLIP or SigLIP tower whose patch features stand in the prompt one after another."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor, nn
from transformers.image_processing_utils import select_best_resolution

from sightline.batch import PromptTokens
from sightline.models.families.family import Family, Grid, Look, images_of, stacked

SHRINKS_ABOVE = 1.1
"""OneVision shrinks a picture's features when their side is this much longer than its limit allows."""


def _look(processor: Any, picture: Pillow.Image, alone: bool) -> Look:
    pixels = processor.image_processor([picture], return_tensors="pt")["pixel_values"][0]
    return Look(pixels=pixels, size=(pixels.shape[-1], pixels.shape[-2]))


def _spell(processor: Any, look: Look) -> str:
    _, height, width = look.pixels.shape
    patches = (height // processor.patch_size) * (width // processor.patch_size)
    without_class = int(processor.vision_feature_select_strategy == "default")
    return LLAVA.soft_token(processor.tokenizer) * (patches + processor.num_additional_image_tokens - without_class)


def _encode(model: Any, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    return list(model.model.get_image_features(pixel_values=stacked(pixels), return_dict=True).pooler_output)


def _plain(config: Any, ids: Tensor, prompts: Sequence[PromptTokens]) -> dict[str, Tensor]:
    pixels, _ = images_of(prompts)
    return {"pixel_values": stacked(pixels)} if pixels else {}


LLAVA = Family(
    name="LLaVA",
    model_types=("llava",),
    language_model=lambda model: model.model.language_model,  # type: ignore[union-attr]
    tower=lambda model: model.model.vision_tower,  # type: ignore[union-attr]
    projector=lambda model: model.model.multi_modal_projector,  # type: ignore[union-attr]
    look=_look,
    spell=_spell,
    encode=_encode,
    plain=_plain,
    boxes="unit",
)


# LLaVA-OneVision cuts a picture that is alone in its prompt into tiles; `grid` is the picture's height and width.


def _look_onevision(processor: Any, picture: Pillow.Image, alone: bool) -> Look:
    given = [picture] if alone else [[picture, picture]]  # only then does the processor leave it whole
    found = processor.image_processor(given, return_tensors="pt")
    return Look(
        pixels=found["pixel_values"][0], grid=tuple(int(side) for side in found["image_sizes"][0]), size=picture.size
    )


def _spell_onevision(processor: Any, look: Look) -> str:
    side = math.isqrt(processor.num_image_tokens)
    num = side * side + 1  # a newline feature behind the whole picture
    if len(look.pixels) > 1:
        rows, columns = _unpadded(processor, look, side)
        num = side * side + rows * (columns + 1)
    without_class = int(processor.vision_feature_select_strategy == "default")
    return LLAVA_ONEVISION.soft_token(processor.tokenizer) * (num - without_class)


def _unpadded(processor: Any, look: Look, side: int) -> tuple[int, int]:
    """Rows and columns of features that a tiled picture keeps: without its padding, and shrunk to the limit."""
    height, width = look.grid
    tile = look.pixels.shape[-1]
    best = select_best_resolution((height, width), processor.image_processor.image_grid_pinpoints)
    rows, columns = side * (best[0] // tile), side * (best[1] // tile)
    if width / height > columns / rows:
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    most = int(processor.vision_aspect_ratio.removeprefix("anyres_max_"))
    ratio = math.sqrt(rows * columns / (most * side**2))
    return (int(rows // ratio), int(columns // ratio)) if ratio > SHRINKS_ABOVE else (rows, columns)


def _encode_onevision(model: Any, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    tiled = [i for i, tiles in enumerate(pixels) if len(tiles) > 1]
    whole = [i for i, tiles in enumerate(pixels) if len(tiles) == 1]
    for members, per_sample in ((tiled, [1] * len(tiled)), (whole, [len(whole) + 1])):
        if members:  # a sample of more than one picture has no tiles
            features = model.model.get_image_features(
                pixel_values=torch.cat([pixels[i] for i in members]),
                image_sizes=torch.as_tensor([grids[i] for i in members]),
                batch_num_images=torch.as_tensor(per_sample),
                return_dict=True,
            ).pooler_output
            found |= dict(zip(members, features, strict=True))
    return [found[i] for i in range(len(pixels))]


def _plain_onevision(config: Any, ids: Tensor, prompts: Sequence[PromptTokens]) -> dict[str, Tensor]:
    pixels, grids = images_of(prompts)
    if not pixels:
        return {}
    most = max(len(tiles) for tiles in pixels)
    padded = [torch.cat([tiles, tiles.new_zeros(most - len(tiles), *tiles.shape[1:])]) for tiles in pixels]
    return {
        "pixel_values": stacked(padded),
        "image_sizes": torch.as_tensor(grids),
        "batch_num_images": torch.as_tensor([len(prompt.images) for prompt in prompts]),
    }


def _projector_onevision(model: Any) -> nn.Module:
    return nn.ModuleList([model.model.multi_modal_projector, nn.ParameterList([model.model.image_newline])])


LLAVA_ONEVISION = Family(
    name="LLaVA-OneVision",
    model_types=("llava_onevision",),
    language_model=lambda model: model.model.language_model,  # type: ignore[union-attr]
    tower=lambda model: model.model.vision_tower,  # type: ignore[union-attr]
    projector=_projector_onevision,
    look=_look_onevision,
    spell=_spell_onevision,
    encode=_encode_onevision,
    plain=_plain_onevision,
    boxes="unit",
    company=True,
)
