"""The tiny contrastive model's skeleton: a real transformers CLIPModel for the world's pictures and its sentences.

Owns the architecture and the tokenizer, not the weights' upbringing (build runs the stage) and not how pictures and
texts are scored (models/contrast.py does, for every CLIP).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
)

from sightline.models.tiny import TinyModel, TinyShape, byte_tokenizer, make_image_processor

ClipModel = CLIPModel
ClipProcessor = CLIPProcessor
SPECIALS = ("<pad>", "</s>")
"""The end token must not have the id 2: transformers reads a CLIP config with it as one of before 2023."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipShape:
    """Widths and depths of a small CLIP. The default has about 1.9 M parameters.

    Example: `ClipShape(text_layers=1)` reads sentences in one layer.
    """

    tower: TinyShape = field(default_factory=TinyShape)
    """Shape of the vision tower, that of the tiny VLM, so that it can start from that tower's weights."""
    text_width: int = 128
    """Hidden size of the text encoder."""
    text_mlp: int = 384
    """MLP size of the text encoder."""
    text_layers: int = 3
    """Layers of the text encoder."""
    text_heads: int = 4
    """Attention heads of the text encoder."""
    text_length: int = 64
    """Tokens of the longest text, its end token included."""
    width: int = 128
    """Size of the vectors whose cosine is the similarity."""


def make_clip_processor(pieces: Sequence[str], shape: ClipShape) -> ClipProcessor:
    """Image processor and tokenizer as one; a text ends with the end token, at which it is read."""
    tokenizer = byte_tokenizer(pieces, specials=SPECIALS)
    end = SPECIALS[1]
    tokenizer.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, SPECIALS.index(end))])
    return CLIPProcessor(
        image_processor=make_image_processor(shape.tower.image_size),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=SPECIALS[0],
            eos_token=end,
            clean_up_tokenization_spaces=False,
            model_max_length=shape.text_length,
        ),
    )


def make_clip(processor: ClipProcessor, shape: ClipShape, *, seed: int) -> ClipModel:
    """The model with fresh random weights, float32."""
    tower, tokenizer = shape.tower, processor.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=tower.vision_width,
        intermediate_size=tower.vision_mlp,
        num_hidden_layers=tower.vision_layers,
        num_attention_heads=tower.vision_heads,
        image_size=tower.image_size,
        patch_size=tower.patch_size,
        projection_dim=shape.width,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.text_width,
        intermediate_size=shape.text_mlp,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        max_position_embeddings=shape.text_length,
        projection_dim=shape.width,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=shape.width))


def take_tower(model: ClipModel, source: TinyModel) -> None:
    """Start the vision tower from the tower of a tiny VLM."""
    model.vision_model.load_state_dict(source.model.vision_tower.state_dict())


def save_clip(model: ClipModel, processor: ClipProcessor, folder: Path) -> None:
    """An ordinary checkpoint folder; the model goes on with what was saved.

    Weights are stored in bfloat16, which halves what the package ships; what computes with them is up to the reader.
    """
    nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    nn.Module.to(model, torch.float32)
