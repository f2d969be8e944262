"""Gemma 3 and PaliGemma: prompts whose attention is not plainly causal.

In Gemma 3 the tokens of one picture see each other both ways, and most layers look back over a window only. In
PaliGemma the whole prompt sees itself both ways, and positions count from one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor

from sightline.batch import PromptTokens
from sightline.models.families.family import (
    Family,
    Grid,
    Look,
    image_token_named_image,
    images_of,
    joined_images,
    stacked,
)


def _look(processor: Any, picture: Pillow.Image, alone: bool) -> Look:
    pixels = processor.image_processor([picture], return_tensors="pt")["pixel_values"][0]
    return Look(pixels=pixels, size=(pixels.shape[-1], pixels.shape[-2]))


def _look_gemma(processor: Any, picture: Pillow.Image, alone: bool) -> Look:
    """Without crops of it: the model's own processor leaves pan and scan off too, unless a call asks for it."""
    found = processor.image_processor([picture], return_tensors="pt", do_pan_and_scan=False)
    pixels = found["pixel_values"][0]
    return Look(pixels=pixels, size=(pixels.shape[-1], pixels.shape[-2]))


def _encode(model: Any, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    return list(model.model.get_image_features(pixel_values=stacked(pixels), return_dict=True).pooler_output)


def _begin_token(tokenizer: Any) -> str:
    return tokenizer.special_tokens_map.get("boi_token", "<start_of_image>")


def _gemma_soft_token(tokenizer: Any) -> str:
    return tokenizer.special_tokens_map.get("image_token", "<image_soft_token>")


def _spell_gemma(processor: Any, look: Look) -> str:
    tokenizer = processor.tokenizer
    end = tokenizer.special_tokens_map.get("eoi_token", "<end_of_image>")
    features = _gemma_soft_token(tokenizer) * processor.image_seq_length
    return f"\n\n{_begin_token(tokenizer)}{features}{end}\n\n"


def _plain_gemma(config: Any, ids: Tensor, prompts: Sequence[PromptTokens]) -> dict[str, Tensor]:
    pixels, _ = images_of(prompts)
    given = {"pixel_values": stacked(pixels)} if pixels else {}
    return {**given, "token_type_ids": (ids == config.image_token_id).long()}


GEMMA3 = Family(
    name="Gemma 3",
    model_types=("gemma3",),
    language_model=lambda model: model.model.language_model,  # type: ignore[union-attr]
    tower=lambda model: model.model.vision_tower,  # type: ignore[union-attr]
    projector=lambda model: model.model.multi_modal_projector,  # type: ignore[union-attr]
    look=_look_gemma,
    spell=_spell_gemma,
    encode=_encode,
    plain=_plain_gemma,
    boxes=None,
    marker=_begin_token,
    soft_token=_gemma_soft_token,
    joined=joined_images,
    covers=frozenset({"sliding_attention"}),
)


def _spell_paligemma(processor: Any, look: Look) -> str:
    return image_token_named_image(processor.tokenizer) * processor.image_processor.image_seq_length


def _plain_paligemma(config: Any, ids: Tensor, prompts: Sequence[PromptTokens]) -> dict[str, Tensor]:
    """The model's own forward calls the prompt type 0 and the answer type 1."""
    pixels, _ = images_of(prompts)
    given = {"pixel_values": stacked(pixels)} if pixels else {}
    lengths = torch.as_tensor([len(prompt.ids) for prompt in prompts])
    return {**given, "token_type_ids": (torch.arange(ids.shape[1])[None] >= lengths[:, None]).long()}


PALIGEMMA = Family(
    name="PaliGemma",
    model_types=("paligemma",),
    language_model=lambda model: model.model.language_model,  # type: ignore[union-attr]
    tower=lambda model: model.model.vision_tower,  # type: ignore[union-attr]
    projector=lambda model: model.model.multi_modal_projector,  # type: ignore[union-attr]
    look=_look,
    spell=_spell_paligemma,
    encode=_encode,
    plain=_plain_paligemma,
    boxes=None,
    positions=lambda config, prompt: torch.arange(len(prompt.ids)) + 1,
    joined=lambda config, prompt: torch.zeros(len(prompt.ids), dtype=torch.long),
    covers=frozenset({"use_bidirectional_attention"}),
)
