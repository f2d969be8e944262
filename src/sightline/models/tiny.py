"""The tiny VLM's skeleton: real transformers classes in the LLaVA layout, tokenizer and processor included.

Owns the architecture, not the weights' upbringing (build runs the stages) and not where shipped weights lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import nn
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

TinyModel = LlavaForConditionalGeneration
TinyProcessor = LlavaProcessor
SPECIALS = ("<pad>", "<s>", "</s>", "<image>")


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """Widths and depths of a small LLaVA. The default has about 3.3 M parameters."""

    image_size: int = 64
    """Side of the picture that the tower sees."""
    patch_size: int = 8
    """Side of a patch."""
    vision_width: int = 160
    """Hidden size of the tower."""
    vision_mlp: int = 480
    """MLP size of the tower."""
    vision_layers: int = 5
    """Layers of the tower."""
    vision_heads: int = 5
    """Attention heads of the tower."""
    text_width: int = 192
    """Hidden size of the language model."""
    text_mlp: int = 576
    """MLP size of the language model."""
    text_layers: int = 4
    """Layers of the language model."""
    text_heads: int = 6
    """Attention heads of the language model."""
    text_kv_heads: int = 3
    """Key-value heads of the language model."""


def make_tokenizer(pieces: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that knows the given pieces whole and everything else as bytes."""
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(pieces, specials=SPECIALS),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": "<image>"},
    )


def byte_tokenizer(pieces: Sequence[str], *, specials: Sequence[str]) -> Tokenizer:
    """The bare tokenizer: special tokens first, then all bytes, then the pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*specials, *alphabet))}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    return tokenizer


def make_processor(pieces: Sequence[str], chat_template: str, shape: TinyShape) -> TinyProcessor:
    """Image processor and tokenizer as one, like any LLaVA checkpoint's."""
    return LlavaProcessor(
        image_processor=make_image_processor(shape.image_size),
        tokenizer=make_tokenizer(pieces),
        patch_size=shape.patch_size,
        vision_feature_select_strategy="default",
        chat_template=chat_template,
        num_additional_image_tokens=1,
    )


def make_image_processor(side: int) -> CLIPImageProcessorPil:
    """Pictures as squares of `side` pixels, their values from -1 to 1."""
    return CLIPImageProcessorPil(
        size={"height": side, "width": side},
        crop_size={"height": side, "width": side},
        do_center_crop=False,
        resample=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def make_model(processor: TinyProcessor, shape: TinyShape, *, seed: int) -> TinyModel:
    """The model with fresh random weights, float32."""
    tokenizer = processor.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_width,
        intermediate_size=shape.vision_mlp,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        projection_dim=shape.vision_width,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.text_width,
        intermediate_size=shape.text_mlp,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        num_key_value_heads=shape.text_kv_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=processor.image_token_id,
        image_seq_length=(shape.image_size // shape.patch_size) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def load_tiny(folder: Path) -> TinyModel:
    """A saved tiny model in float32."""
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def save_tiny(model: TinyModel, processor: TinyProcessor, folder: Path) -> None:
    """An ordinary checkpoint folder; the model goes on with what was saved.

    Weights are stored in bfloat16, which halves what the package ships; what computes with them is up to the reader.
    """
    nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    nn.Module.to(model, torch.float32)
