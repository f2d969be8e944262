"""Idefics3, SmolVLM and InternVL: a picture becomes tiles of one size, each with as many features as any other.

`grid` of Idefics3 and SmolVLM is (rows, columns) of tiles, which the prompt names one by one; (0, 0) is a picture
that is not cut. InternVL needs none: its tiles stand in one run.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor

from sightline.batch import PromptTokens
from sightline.models.families.family import Bounds, Family, Grid, Look, image_token_named_image, images_of


def _look_idefics(processor: Any, picture: Pillow.Image, alone: bool) -> Look:
    return _look_idefics_within(processor, picture, alone, (0, None))


def _look_idefics_within(processor: Any, picture: Pillow.Image, alone: bool, bounds: Bounds) -> Look:
    """Its longer side is brought to a length before it is cut; bounds on pixels bound that length."""
    own = int(dict(processor.image_processor.size)["longest_edge"])
    side = own if bounds[1] is None else min(own, _longer_side(picture, bounds[1]))
    size = {"longest_edge": max(side, _longer_side(picture, bounds[0]), 1)}
    found = processor.image_processor([picture], return_tensors="pt", return_row_col_info=True, size=size)
    pixels = found["pixel_values"][0]
    mask = found.get("pixel_attention_mask")
    if mask is not None and not bool(mask.bool().all()):
        raise ValueError(
            "this image processor pads its tiles, which the shared-prompt forward does not cover; "
            "set max_image_size so that every tile has the same size"
        )
    rows, columns = int(found["rows"][0][0]), int(found["cols"][0][0])
    height, width = pixels.shape[-2:]
    return Look(pixels=pixels, grid=(rows, columns), size=(max(1, columns) * width, max(1, rows) * height))


def _longer_side(picture: Pillow.Image, pixels: int) -> int:
    """Of the picture at so many pixels."""
    width, height = picture.size
    return int(max(width, height) * math.sqrt(pixels / (width * height)))


def _spell_idefics(processor: Any, look: Look) -> str:
    """Tiles row by row, each with its name, then the whole picture small; only the whole when it is not cut."""
    tokenizer = processor.tokenizer
    around = tokenizer.special_tokens_map.get("fake_image_token", "<fake_token_around_image>")
    whole = tokenizer.special_tokens_map.get("global_image_token", "<global-img>")
    features = image_token_named_image(tokenizer) * processor.image_seq_len
    rows, columns = look.grid
    tiles = [
        "".join(f"{around}<row_{row + 1}_col_{column + 1}>{features}" for column in range(columns)) + "\n"
        for row in range(rows)
    ]
    return "".join([*tiles, "\n" if tiles else "", around, whole, features, around])


def _encode_idefics(model: Any, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    tiles = torch.cat(list(pixels))[None]
    features = model.model.get_image_features(pixel_values=tiles, return_dict=True).pooler_output
    rows = features[0] if isinstance(features, (list, tuple)) else features.flatten(0, 1)
    per_tile = len(rows) // tiles.shape[1]
    return list(rows.split([per_tile * len(image) for image in pixels]))


def _plain_idefics(config: Any, ids: Tensor, prompts: Sequence[PromptTokens]) -> dict[str, Tensor]:
    """Tiles of each row side by side, padded with empty ones, which the model leaves out."""
    rows = [[image.load() for image in prompt.images] for prompt in prompts]
    most = max(sum(len(tiles) for tiles in row) for row in rows)
    if most == 0:
        return {}
    shape = next(tiles for row in rows for tiles in row).shape[1:]
    padded = torch.zeros(len(rows), most, *shape)
    mask = torch.zeros(len(rows), most, *shape[1:], dtype=torch.long)
    for n, row in enumerate(rows):
        place = 0
        for tiles in row:
            padded[n, place : place + len(tiles)], mask[n, place : place + len(tiles)] = tiles, 1
            place += len(tiles)
    return {"pixel_values": padded, "pixel_attention_mask": mask}


IDEFICS3 = Family(
    name="Idefics3",
    model_types=("idefics3",),
    language_model=lambda model: model.model.text_model,  # type: ignore[union-attr]
    tower=lambda model: model.model.vision_model,  # type: ignore[union-attr]
    projector=lambda model: model.model.connector,  # type: ignore[union-attr]
    look=_look_idefics,
    within=_look_idefics_within,
    spell=_spell_idefics,
    encode=_encode_idefics,
    plain=_plain_idefics,
    boxes=None,
)
SMOLVLM = replace(IDEFICS3, name="SmolVLM", model_types=("smolvlm",))


def _look_internvl(processor: Any, picture: Pillow.Image, alone: bool) -> Look:
    """Cut into tiles whatever the image processor's own default says: the model's processor asks for it too."""
    return _look_internvl_within(processor, picture, alone, (0, None))


def _look_internvl_within(processor: Any, picture: Pillow.Image, alone: bool, bounds: Bounds) -> Look:
    """Bounds on pixels bound the number of tiles."""
    given, own = processor.image_processor, dict(processor.image_processor.size)
    tile = own["height"] * own["width"]
    most = given.max_patches if bounds[1] is None else max(1, min(given.max_patches, bounds[1] // tile))
    least = min(most, max(given.min_patches, bounds[0] // tile))
    cut = {"crop_to_patches": True, "min_patches": least, "max_patches": most}
    return Look(pixels=given([picture], return_tensors="pt", **cut)["pixel_values"], size=picture.size)


def _context_token(tokenizer: Any) -> str:
    return tokenizer.special_tokens_map.get("context_image_token", "<IMG_CONTEXT>")


def _spell_internvl(processor: Any, look: Look) -> str:
    named = processor.tokenizer.special_tokens_map
    features = _context_token(processor.tokenizer) * processor.image_seq_length * len(look.pixels)
    return f"{named.get('start_image_token', '<img>')}{features}{named.get('end_image_token', '</img>')}"


def _encode_internvl(model: Any, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    features = model.model.get_image_features(pixel_values=torch.cat(list(pixels)), return_dict=True).pooler_output
    return [tiles.flatten(0, 1) for tiles in features.split([len(image) for image in pixels])]


def _plain_internvl(config: Any, ids: Tensor, prompts: Sequence[PromptTokens]) -> dict[str, Tensor]:
    pixels, _ = images_of(prompts)
    return {"pixel_values": torch.cat(pixels)} if pixels else {}


INTERNVL = Family(
    name="InternVL",
    model_types=("internvl",),
    language_model=lambda model: model.model.language_model,  # type: ignore[union-attr]
    tower=lambda model: model.model.vision_tower,  # type: ignore[union-attr]
    projector=lambda model: model.model.multi_modal_projector,  # type: ignore[union-attr]
    look=_look_internvl,
    within=_look_internvl_within,
    spell=_spell_internvl,
    encode=_encode_internvl,
    plain=_plain_internvl,
    boxes="thousand",
    marker=_context_token,
    soft_token=_context_token,
)
