"""The models that are measured, built from their configs with random weights, and the workloads on them.

Nothing is downloaded: pictures are noise, words are random. A shape also states its sizes for `operations`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import nn
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from bench.operations import Text, Tower, Work
from sightline.models.tiny import make_image_processor

WORDS = 24
FIRST_WORD, LAST_WORD = 3, 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model that can be built anywhere, and what it makes of a square picture."""

    name: str
    """For tables."""
    config: Callable[[], Any]
    """Its configuration."""
    model: Any
    """Its class."""
    side: int
    """Side of the pictures, in pixels."""
    processor: Callable[[], Any]
    """What turns a picture into pixels, as far as a family reads it."""
    around: tuple[tuple[int, ...], tuple[int, ...]]
    """Tokens before and after an image."""
    text: Text
    """Sizes of the language model."""
    tower: Tower
    """Sizes of tower and projector."""
    adapters: bool = False
    """Whether adapters are trained instead of the language model."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a prompt with one image."""
        return sum(map(len, self.around)) + self.tower.features + WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One learning step to be measured, and the bounds it must meet."""

    name: str
    """For tables and --only."""
    shape: Shape
    """The model."""
    objective: str
    """"dpo" or "grpo"."""
    work: Work
    """Prompts, answers, what is trained and what is kept."""
    least_ratio: float | None = None
    """Bound on the time ratio to TRL."""
    most_memory: float | None = None
    """Bound on the peak memory over TRL's, both above the loaded model."""


def build(shape: Shape, *, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The model with random weights, frozen, in evaluation mode; made where it will be."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = shape.model(shape.config())
    finally:
        torch.set_default_dtype(before)
    model.set_attn_implementation("sdpa")
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 0
    return nn.Module.eval(model.requires_grad_(False))


def picture(side: int, seed: int) -> Pillow.Image:
    """Noise."""
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def words(num: int, seed: int) -> list[int]:
    """Random tokens that mean nothing special."""
    return np.random.default_rng(seed).integers(FIRST_WORD, LAST_WORD, num).tolist()


def llava_config(side: int) -> LlavaConfig:
    """9.3 million parameters: CLIP 192 wide x 6 layers, Qwen2 256 wide x 8 layers."""
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=3,
        image_size=side,
        patch_size=14,
    )
    text = Qwen2Config(
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=389,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=388,
        vision_feature_layer=-1,
        image_seq_length=(side // 14) ** 2,
        tie_word_embeddings=True,
    )


def llava(side: int) -> Shape:
    """The LLaVA layout at a picture size."""
    patches = (side // 14) ** 2
    return Shape(
        name=f"LLaVA 9.3 M, {patches} image tokens",
        config=lambda: llava_config(side),
        model=LlavaForConditionalGeneration,
        side=side,
        processor=lambda: SimpleNamespace(
            image_processor=make_image_processor(side),
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        around=((1,), ()),
        text=Text(layers=8, width=256, mlp=768, heads=4, kv_heads=2, head_width=64, vocabulary=389),
        tower=Tower(
            width=192,
            mlp=768,
            gated=False,
            heads=3,
            patches=patches,
            patch_values=3 * 14 * 14,
            tokens=patches + 1,
            spans=(patches + 1,) * 6,
            features=patches,
            projector=((192, 256), (256, 256)),
        ),
    )


def qwen_config(text: Text, tower: Tower, *, special: int, tied: bool) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL of given sizes; its special tokens are `special` and the two before."""
    half = text.head_width // 2
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": text.width,
            "intermediate_size": text.mlp,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "vocab_size": text.vocabulary,
            "tie_word_embeddings": tied,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [half // 4, half * 3 // 8, half * 3 // 8],
            },
            "bos_token_id": None,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={
            "depth": len(tower.spans),
            "hidden_size": tower.width,
            "intermediate_size": tower.mlp,
            "num_heads": tower.heads,
            "out_hidden_size": text.width,
            "fullatt_block_indexes": [n for n, span in enumerate(tower.spans) if span == tower.tokens],
            "window_size": 112,
        },
        image_token_id=special,
        vision_end_token_id=special - 1,
        vision_start_token_id=special - 2,
        video_token_id=special - 3,
        tie_word_embeddings=tied,
    )


def qwen(name: str, side: int, text: Text, *, depth: int, width: int, mlp: int, heads: int, special: int) -> Shape:
    """Qwen2.5-VL on square pictures whose side is a multiple of the windows' (112): every fourth layer sees all."""
    patches = (side // 14) ** 2
    full = max(1, min(8, depth // 2))
    tower = Tower(
        width=width,
        mlp=mlp,
        gated=True,
        heads=heads,
        patches=patches,
        patch_values=3 * 2 * 14 * 14,
        tokens=patches,
        spans=tuple(patches if n % full == full - 1 else 64 for n in range(depth)),
        features=patches // 4,
        projector=((4 * width, 4 * width), (4 * width, text.width)),
    )
    large = text.layers > 8
    return Shape(
        name=name,
        config=lambda: qwen_config(text, tower, special=special, tied=not large),
        model=Qwen2_5_VLForConditionalGeneration,
        side=side,
        processor=lambda: SimpleNamespace(image_processor=Qwen2VLImageProcessorPil()),
        around=((special - 2,), (special - 1,)),
        text=text,
        tower=tower,
        adapters=large,
        checkpointing=large,
    )


QWEN_TINY = qwen(
    "Qwen2.5-VL tiny, 256 image tokens",
    448,
    Text(layers=8, width=256, mlp=768, heads=4, kv_heads=2, head_width=64, vocabulary=389),
    depth=6,
    width=192,
    mlp=768,
    heads=3,
    special=388,
)
QWEN_7B = qwen(
    "Qwen2.5-VL-7B, 400 image tokens",
    560,
    Text(
        layers=28,
        width=3584,
        mlp=18944,
        heads=28,
        kv_heads=4,
        head_width=128,
        vocabulary=152064,
        adapter_rank=16,
    ),
    depth=32,
    width=1280,
    mlp=3420,
    heads=16,
    special=151655,
)
