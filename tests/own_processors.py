"""Each family's own processor, which decides what is right: tokens, pixels, and what else a model is given."""

import copy
import inspect
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from transformers import Gemma3Processor, Idefics3Processor, LlavaProcessor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.smolvlm import processing_smolvlm
from transformers.processing_utils import ProcessorMixin

from sightline.models.load import Loaded
from sightline.records import Prompt
from tests.families import family_prompt, row_of, sized_picture
from tests.tiny import tiny_inputs

OWN_PROCESSORS = {
    "llava-clip": LlavaProcessor,
    "llava-siglip": LlavaProcessor,
    "llava-onevision": LlavaOnevisionProcessor,
    "qwen2-vl": Qwen2VLProcessor,
    "qwen2.5-vl": Qwen2_5_VLProcessor,
    "qwen3-vl": Qwen3VLProcessor,
    "idefics3": Idefics3Processor,
    "smolvlm": processing_smolvlm.SmolVLMProcessor,
    "gemma3": Gemma3Processor,
    "internvl": InternVLProcessor,
}
"""Processor classes of transformers; PaliGemma's writes its own prompt around the text and is left out."""


def own_processor(name: str) -> Any:
    """The family's own processor on the same parts; the video processor that many ask for is left out."""
    kind, processor = OWN_PROCESSORS[name], row_of(name)[1]
    takes = inspect.signature(kind.__init__).parameters
    given = {key: value for key, value in processor.settings.items() if key in takes}
    if "video_processor" in takes:
        given["video_processor"] = None
    with (
        patch.object(ProcessorMixin, "check_argument_for_proper_class", lambda *given: None),
        patch.object(processing_smolvlm, "num2words", str),  # only videos need it
    ):
        return kind(image_processor=processor.image_processor, tokenizer=copy.deepcopy(processor.tokenizer), **given)


SHOWN = {"one": (0,), "two": (1, 0), "none": (), "wide": (3,)}
"""Pictures of each prompt in `family_prompts`."""


def records(seeds: dict[str, tuple[int, ...]]) -> dict[str, Prompt]:
    texts = {"one": "what is this?", "two": "which?", "none": "say something long enough.", "wide": "?"}
    return {name: family_prompt(name, *shown, text=texts[name]) for name, shown in seeds.items()}


def own_inputs(name: str, loaded: Loaded, prompt: Prompt) -> dict[str, Tensor]:
    """What the family's own processor makes of a prompt."""
    pictures = [sized_picture(seed) for seed in SHOWN[prompt.id]]
    rendered = tiny_inputs(loaded).render(prompt)
    if name in OWN_PROCESSORS:
        special = loaded.processor.tokenizer.bos_token not in rendered
        found = own_processor(name)(
            text=[rendered],
            images=[pictures] if pictures else None,
            return_tensors=None if name == "internvl" else "pt",  # whose processor asks NumPy to add up tensors
            add_special_tokens=special,
        )
        kept = {key: value for key, value in found.items() if key not in ("rows", "cols", "num_crops")}
        return {key: torch.as_tensor(np.array(value)) if name == "internvl" else value for key, value in kept.items()}
    expanded = rendered.replace("<image>", "<image>" * 16)
    ids = loaded.processor.tokenizer(expanded, return_tensors="pt", add_special_tokens=False).input_ids
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return given | (dict(loaded.processor.image_processor(pictures, return_tensors="pt")) if pictures else {})
