"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size, positions of three axes, and in Qwen3-VL deep features.

`grid` is (1, rows, columns) of patches before they are merged, as the processor counts them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from sightline.batch import PromptTokens
from sightline.models.families.family import Bounds, Family, Grid, Look, images_of


def _look(processor: Any, picture: Pillow.Image, alone: bool) -> Look:
    return _seen(processor, picture, dict(processor.image_processor.size))


def _look_within(processor: Any, picture: Pillow.Image, alone: bool, bounds: Bounds) -> Look:
    """The checkpoint's own bounds hold too."""
    own = dict(processor.image_processor.size)
    least, most = own["shortest_edge"], own["longest_edge"]
    lower = min(max(least, bounds[0]), most)
    upper = most if bounds[1] is None else max(lower, min(most, bounds[1]))
    return _seen(processor, picture, {"shortest_edge": lower, "longest_edge": upper})


def _seen(processor: Any, picture: Pillow.Image, size: dict[str, int]) -> Look:
    found = processor.image_processor([picture], return_tensors="pt", size=size)
    frames, rows, columns = (int(n) for n in found["image_grid_thw"][0])
    patch = processor.image_processor.patch_size
    return Look(pixels=found["pixel_values"], grid=(frames, rows, columns), size=(columns * patch, rows * patch))


def _soft_token(tokenizer: Any) -> str:
    return tokenizer.special_tokens_map.get("image_token", "<|image_pad|>")


def _spell(processor: Any, look: Look) -> str:
    frames, rows, columns = look.grid
    return _soft_token(processor.tokenizer) * (frames * rows * columns // processor.image_processor.merge_size**2)


def _encode(model: Any, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    return list(_features(model, pixels, grids).pooler_output)


def _encode_deep(model: Any, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    found = _features(model, pixels, grids)
    sizes = [len(image) for image in found.pooler_output]
    deep = (torch.cat(list(level)) if isinstance(level, tuple) else level for level in found.deepstack_features)
    levels = (found.pooler_output, *(level.split(sizes) for level in deep))  # some versions split them, some do not
    return [torch.cat(image, 1) for image in zip(*levels, strict=True)]


def _features(model: Any, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> Any:
    grid = torch.as_tensor(grids, device=pixels[0].device)
    return model.model.get_image_features(torch.cat(list(pixels)), grid, return_dict=True)


def _plain(config: Any, ids: Tensor, prompts: Sequence[PromptTokens]) -> dict[str, Tensor]:
    pixels, grids = images_of(prompts)
    if not pixels:
        return {}
    return {
        "pixel_values": torch.cat(pixels),
        "image_grid_thw": torch.as_tensor(grids),
        "mm_token_type_ids": (ids == config.image_token_id).int(),
    }


def _positions(config: Any, prompt: PromptTokens) -> Tensor:
    """[3, tokens] time, row and column: text counts all three on, an image opens a grid from where it begins.

    What follows an image continues behind the longer side of its grid.
    """
    merge = config.vision_config.spatial_merge_size
    soft = (torch.as_tensor(prompt.ids) == config.image_token_id).nonzero().squeeze(1).tolist()
    parts: list[Tensor] = []
    place = start = used = 0
    for image in prompt.images:
        num_text = soft[used] - place
        parts.append((torch.arange(num_text) + start).expand(3, -1))
        start += num_text
        frames, rows, columns = image.grid[0], image.grid[1] // merge, image.grid[2] // merge
        axes = torch.meshgrid(torch.arange(frames), torch.arange(rows), torch.arange(columns), indexing="ij")
        parts.append(torch.stack(axes).flatten(1) + start)
        start += max(rows, columns)
        place, used = soft[used] + image.num_tokens, used + image.num_tokens
    parts.append((torch.arange(len(prompt.ids) - place) + start).expand(3, -1))
    return torch.cat(parts, 1)


def _deep(levels: list[Tensor]) -> Mapping[str, Any]:
    everywhere = torch.ones(levels[0].shape[:2], dtype=torch.bool, device=levels[0].device)
    return {"visual_pos_masks": everywhere, "deepstack_visual_embeds": [level[0] for level in levels]}


def _mergers(model: Any) -> nn.Module:
    return nn.ModuleList([model.model.visual.merger, *model.model.visual.deepstack_merger_list])


QWEN2_5_VL = Family(
    name="Qwen2.5-VL",
    model_types=("qwen2_5_vl",),
    language_model=lambda model: model.model.language_model,  # type: ignore[union-attr]
    tower=lambda model: model.model.visual,  # type: ignore[union-attr]
    projector=lambda model: model.model.visual.merger,  # type: ignore[union-attr]
    look=_look,
    within=_look_within,
    spell=_spell,
    encode=_encode,
    plain=_plain,
    boxes="seen",
    marker=_soft_token,
    soft_token=_soft_token,
    positions=_positions,
)
QWEN2_VL = replace(QWEN2_5_VL, name="Qwen2-VL", model_types=("qwen2_vl",), boxes="thousand")
QWEN3_VL = replace(
    QWEN2_VL,
    name="Qwen3-VL",
    model_types=("qwen3_vl",),
    projector=_mergers,
    encode=_encode_deep,
    deep=_deep,
)
