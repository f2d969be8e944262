"""One tiny random model per family: real transformers classes, tokenizer and image processor built in code.

Each row is read like a checkpoint: prompts through the chat template, pictures of several sizes through the family's
own image processor. Windows are shorter than prompts, pictures make several tiles, weights are stirred.
"""

import copy
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from tokenizers import AddedToken
from transformers import AutoModelForImageTextToText as AutoModel
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    GemmaConfig,
    Idefics3Config,
    InternVLConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaOnevisionConfig,
    PaliGemmaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen3VLConfig,
    SiglipVisionConfig,
    SmolVLMConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.models.families import family_of
from sightline.models.load import Loaded, choose_trained
from sightline.models.processor import ImageTextProcessor
from sightline.models.refusals import refuse_model
from sightline.models.tiny import byte_tokenizer
from sightline.records import Image, Message, Prompt
from tests.tiny import _stir, stir_adapters, tiny_inputs


def _template(turn: str, opening: str, text: str = "{{ p.text }}") -> str:
    """Turns one after another, then what opens an answer; PARTS are a turn's, PICTURE stands for a picture."""
    parts = "{% for p in m.content %}{% if p.type == 'image' %}PICTURE{% else %}" + text + "{% endif %}{% endfor %}"
    turns = "{% for m in messages %}" + turn.replace("PARTS", parts) + "{% endfor %}"
    return turns + "{% if add_generation_prompt %}" + opening + "{% endif %}"


IM_START, IM_END = "<|im_start|>", "<|im_end|>"
TEMPLATES = {
    "named": _template("{{ m.role | upper }}: PARTS", "ASSISTANT:", text="{{ p.text }} "),
    "spaced": _template(
        "<|im_start|>{{ m.role }} {% if m.role == 'assistant' %}{{ '\\n' }}{% endif %}PARTS<|im_end|>",
        "<|im_start|>assistant\n",
    ),
    "lines": _template("<|im_start|>{{ m.role }}\nPARTS<|im_end|>\n", "<|im_start|>assistant\n"),
    "utterances": _template(
        "{{ m.role | capitalize }}:{% if m.content[0].type == 'text' %} {% endif %}PARTS<end_of_utterance>\n",
        "Assistant:",
    ),
    "trimmed": _template(
        "{% if loop.first %}<s>{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "PARTS<end_of_turn>\n",
        "<start_of_turn>model\n",
        text="{{ p.text | trim }}",
    ),
    "bare": _template("{% if m.role == 'user' %}<s>PARTS{{ '\\n' }}{% else %}PARTS</s>{% endif %}", ""),
}
"""How turns and the end of a prompt are written by the families' published templates."""
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = ((40, 24), (17, 30), (32, 32), (64, 20))
"""Width and height of the pictures that prompts show."""

Row = tuple[PreTrainedConfig, ImageTextProcessor]


def tokenizer_of(
    markers: Sequence[str], *, written: str, template: str = "lines", words: Sequence[str] = (), **named: str
) -> PreTrainedTokenizerFast:
    """A byte tokenizer with these media tokens and words, whose template writes `written` for a picture."""
    markers = (*markers, *(word for word in (IM_START, IM_END) if word in TEMPLATES[template]))
    specials = ("<pad>", "<s>", "</s>", *markers)
    inner = byte_tokenizer([], specials=specials)
    inner.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("\n\n\n", normalized=False)])
    inner.add_tokens([AddedToken(word, normalized=False) for word in words])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens=named,
        chat_template=TEMPLATES[template].replace("PICTURE", written),
    )


def _row(tokenizer: Any, image_processor: Any, make: Callable[[Any], PreTrainedConfig], **settings: Any) -> Row:
    processor = ImageTextProcessor(tokenizer=tokenizer, image_processor=image_processor, settings=settings)
    return make(tokenizer), processor


def _llava(tower: str) -> Row:
    tokenizer = tokenizer_of(["<image>"], written="<image>\n", template="named", image_token="<image>")
    clip = tower == "clip"
    vision = (CLIPVisionConfig if clip else SiglipVisionConfig)(image_size=16, patch_size=8, **VISION)
    size = {"height": 16, "width": 16}
    images = (
        CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size)
        if clip
        else SiglipImageProcessorPil(size=size)
    )
    strategy = "default" if clip else "full"
    return _row(
        tokenizer,
        images,
        lambda t: LlavaConfig(
            vision_config=vision,
            text_config=Qwen2Config(vocab_size=len(t), **TEXT),
            image_token_id=t.convert_tokens_to_ids("<image>"),
            vision_feature_layer=-2,
            vision_feature_select_strategy=strategy,
        ),
        patch_size=8,
        num_additional_image_tokens=int(clip),
        vision_feature_select_strategy=strategy,
    )


def _onevision() -> Row:
    named = {"image_token": "<image>", "video_token": "<video>"}
    tokenizer = tokenizer_of(list(named.values()), written="<image>\n", template="spaced", **named)
    pinpoints = [[16, 16], [16, 32], [32, 16], [32, 32], [16, 48], [48, 16]]
    return _row(
        tokenizer,
        LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=pinpoints),
        lambda t: LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(image_size=16, patch_size=4, vision_use_head=False, **VISION),
            text_config=Qwen2Config(vocab_size=len(t), **TEXT),
            image_token_index=t.convert_tokens_to_ids("<image>"),
            video_token_index=t.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=pinpoints,
            vision_aspect_ratio="anyres_max_2",
        ),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_2",
    )


def _qwen(config: type, **vision: Any) -> Row:
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    words = ("<think>", "</think>") if config is Qwen3VLConfig else ()
    tokenizer = tokenizer_of(marks, written="<|vision_start|><|image_pad|><|vision_end|>", words=words)
    ids = dict(
        zip(
            ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"),
            tokenizer.convert_tokens_to_ids(marks),
            strict=True,
        )
    )
    head = {"head_dim": 8} if config is Qwen3VLConfig else {}
    images = Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 64, "longest_edge": 1024})
    return _row(
        tokenizer,
        images,
        lambda t: config(
            vision_config={"patch_size": 4, "num_heads": 2, "depth": 3, **vision},
            text_config={"vocab_size": len(t), **TEXT, **head, "rope_parameters": rope},
            **ids,
        ),
    )


def _qwen2() -> Row:
    return _qwen(Qwen2VLConfig, embed_dim=16, hidden_size=32, mlp_ratio=2)


def _qwen2_5() -> Row:
    widths = {"hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32}
    return _qwen(Qwen2_5_VLConfig, **widths, window_size=16, fullatt_block_indexes=[1])


def _qwen3() -> Row:
    widths = {"hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32}
    return _qwen(Qwen3VLConfig, **widths, num_position_embeddings=16, deepstack_visual_indexes=[0, 1])


def _idefics(config: type, images: type) -> Row:
    names = [f"<row_{r + 1}_col_{c + 1}>" for r in range(4) for c in range(4)]
    marks = ["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>", *names]
    tokenizer = tokenizer_of(marks, written="<image>", template="utterances")
    return _row(
        tokenizer,
        images(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}),
        lambda t: config(
            vision_config={**VISION, "image_size": 16, "patch_size": 4},
            text_config=LlamaConfig(vocab_size=len(t), **TEXT),
            image_token_id=t.convert_tokens_to_ids("<image>"),
            scale_factor=2,
        ),
        image_seq_len=4,
    )


def _gemma3() -> Row:
    marks = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    turns = ("<start_of_turn>", "<end_of_turn>")
    tokenizer = tokenizer_of([*marks.values(), *turns], written="<start_of_image>", template="trimmed", **marks)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return _row(
        tokenizer,
        Gemma3ImageProcessorPil(size={"height": 16, "width": 16}),
        lambda t: Gemma3Config(
            vision_config=SiglipVisionConfig(image_size=16, patch_size=4, vision_use_head=False, **VISION),
            text_config={
                "vocab_size": len(t),
                **TEXT,
                "head_dim": 8,
                "sliding_window": 7,
                "layer_types": kinds,
                "query_pre_attn_scalar": 8,
            },
            mm_tokens_per_image=4,
            boi_token_index=t.convert_tokens_to_ids("<start_of_image>"),
            eoi_token_index=t.convert_tokens_to_ids("<end_of_image>"),
            image_token_index=t.convert_tokens_to_ids("<image_soft_token>"),
        ),
        image_seq_length=4,
    )


def _internvl() -> Row:
    marks = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    marks["video_token"] = "<video>"
    tokenizer = tokenizer_of(list(marks.values()), written="<IMG_CONTEXT>\n", **marks)
    return _row(
        tokenizer,
        GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, max_patches=4),
        lambda t: InternVLConfig(
            vision_config={**VISION, "image_size": [16, 16], "patch_size": [4, 4]},
            text_config=Qwen2Config(vocab_size=len(t), **TEXT),
            image_token_id=t.convert_tokens_to_ids("<IMG_CONTEXT>"),
            image_seq_length=4,
        ),
        image_seq_length=4,
    )


def _paligemma() -> Row:
    tokenizer = tokenizer_of(["<image>"], written="<image>", template="bare", image_token="<image>")
    images = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    images.image_seq_length = 16
    return _row(
        tokenizer,
        images,
        lambda t: PaliGemmaConfig(
            vision_config=SiglipVisionConfig(image_size=16, patch_size=4, vision_use_head=False, **VISION),
            text_config=GemmaConfig(vocab_size=len(t), **TEXT, head_dim=8),
            image_token_index=t.convert_tokens_to_ids("<image>"),
            projection_dim=32,
            hidden_size=32,
        ),
    )


ROWS: dict[str, Callable[[], Row]] = {
    "llava-clip": lambda: _llava("clip"),
    "llava-siglip": lambda: _llava("siglip"),
    "llava-onevision": _onevision,
    "qwen2-vl": _qwen2,
    "qwen2.5-vl": _qwen2_5,
    "qwen3-vl": _qwen3,
    "idefics3": lambda: _idefics(Idefics3Config, Idefics3ImageProcessorPil),
    "smolvlm": lambda: _idefics(SmolVLMConfig, SmolVLMImageProcessorPil),
    "gemma3": _gemma3,
    "internvl": _internvl,
    "paligemma": _paligemma,
}

ENDS = dict.fromkeys(ROWS, ("</s>",)) | {
    "qwen2-vl": (IM_END, "</s>"),
    "qwen2.5-vl": ("</s>", IM_END),
    "idefics3": ("<end_of_utterance>",),
    "gemma3": ("</s>", "<end_of_turn>"),
}
"""End tokens that a checkpoint names; the others' templates end an answer with one that theirs do not name."""


@functools.cache
def row_of(name: str) -> Row:
    """Config and processor of a family's tiny model."""
    return ROWS[name]()


def family_loaded(name: str, *, seed: int = 0) -> Loaded:
    """The family's tiny model, all of it frozen, as `load_model` gives it."""
    config, processor = row_of(name)
    refuse_model(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(copy.deepcopy(config), attn_implementation="sdpa")
    _stir(model, seed)
    ends = [processor.tokenizer.convert_tokens_to_ids(word) for word in ENDS[name]]
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    model.requires_grad_(False).eval()
    return Loaded(model=model, processor=processor, family=family_of(config.model_type), dtype="float32")


def family_trained(name: str, train: str = "full", *, seed: int = 0, **options: Any) -> Loaded:
    """The model with something to train; adapters are stirred."""
    loaded = choose_trained(family_loaded(name, seed=seed), train=train, rank=4, alpha=8, **options)
    if train == "lora":
        stir_adapters(loaded, seed=seed)
    return loaded


def sized_picture(seed: int) -> Pillow.Image:
    """A picture of random pixels; its size comes from the seed too."""
    width, height = SIZES[seed % len(SIZES)]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Pillow.fromarray(pixels)


def sized_image(seed: int) -> Image:
    """The same inside a record."""
    held = io.BytesIO()
    sized_picture(seed).save(held, "PNG")
    return Image(data=held.getvalue())


def family_prompt(name: str, *pictures: int, text: str = "what is this?") -> Prompt:
    """A prompt that shows these pictures, a word between them."""
    parts = [part for seed in pictures for part in (sized_image(seed), "and")][: 2 * len(pictures) - 1]
    return Prompt(id=name, messages=(Message(role="user", content=(*parts, text)),))


def family_prompts(loaded: Loaded, *, seed: int = 0) -> list[PromptTokens]:
    """Prompts with one picture, two of other sizes (one of them the first's), a wide one, and none."""
    inputs = tiny_inputs(loaded)
    return [
        inputs.prompt(prompt)
        for prompt in (
            family_prompt("one", seed),
            family_prompt("two", seed + 1, seed, text="which?"),
            family_prompt("none", text="say something long enough."),
            family_prompt("wide", seed + 3, text="?"),
        )
    ]


def family_batch(loaded: Loaded, *, num_answers: int = 2, seed: int = 0) -> Batch:
    """The prompts with ragged answers of plain bytes, one of a single token."""
    prompts = family_prompts(loaded, seed=seed)
    rng = np.random.default_rng(seed)
    lengths = [[int(n) for n in rng.integers(1, 12, num_answers)] for _ in prompts]
    lengths[0][-1], lengths[1][0] = 1, 12
    return make_batch(prompts, [[plain_ids(loaded, n, rng) for n in row] for row in lengths])


def plain_ids(loaded: Loaded, num: int, rng: np.random.Generator) -> list[int]:
    """Random tokens that stand for bytes."""
    first = loaded.processor.tokenizer.convert_tokens_to_ids("!")
    return rng.integers(first, first + 256, num).tolist()
