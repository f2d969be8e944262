"""A two-layer vision-language model built in code: no download, fixed seeds, weights large enough to matter.

Freshly initialised transformers hardly attend to anything; here every weight is drawn with unit gain and biases
and norms are stirred, so that a wrong mask, position or picture moves the log-probabilities by far more than
rounding does.
"""

import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipVisionConfig,
)

from sightline.batch import Batch, ImageInput, PromptTokens, make_batch, split
from sightline.data.images import ImageStore
from sightline.models.families import LLAVA
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded, choose_trained
from sightline.models.tiny import TinyShape, make_model, make_processor
from sightline.records import Completion, Group, Image, Message, Pair, Prompt
from sightline.world.vocabulary import CHAT_TEMPLATE, pieces

SHAPE = TinyShape(
    image_size=16,
    patch_size=8,
    vision_width=16,
    vision_mlp=32,
    vision_layers=2,
    vision_heads=2,
    text_width=32,
    text_mlp=64,
    text_layers=2,
    text_heads=4,
    text_kv_heads=2,
)
KINDS = ("qwen2", "llama", "siglip")
PICTURE_TOKENS = (SHAPE.image_size // SHAPE.patch_size) ** 2
TOLERANCE = 1e-5
BOTH = frozenset({"logprobs", "entropy"})
TRAINED = {
    "full": ("full", {}),
    "lora": ("lora", {}),
    "full with tower and projector": ("full", {"train_tower": True, "train_projector": True}),
    "lora with projector": ("lora", {"train_projector": True}),
    "lora with tower": ("lora", {"train_tower": True}),
}
"""What may be trained: how, and what beside the language model."""
WORDS = ("red", " circle", " blue", " square", " a", " There", " is", " green")


@functools.cache
def tiny_processor(kind: str = "qwen2") -> LlavaProcessor:
    """Processor with the world's vocabulary; a SigLIP tower has no class token to drop."""
    processor = make_processor(pieces(), CHAT_TEMPLATE, SHAPE)
    if kind == "siglip":
        processor.vision_feature_select_strategy, processor.num_additional_image_tokens = "full", 0
    return processor


def tiny_model(kind: str = "qwen2", *, seed: int = 0) -> LlavaForConditionalGeneration:
    """CLIP tower with Qwen2 text, CLIP with untied Llama text ("llama"), or SigLIP with Qwen2 ("siglip")."""
    processor = tiny_processor(kind)
    model = make_model(processor, SHAPE, seed=seed)
    if kind != "qwen2":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlavaForConditionalGeneration(_changed(model.config, kind))
        model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    _stir(model, seed)
    return model


def tiny_loaded(kind: str = "qwen2", *, seed: int = 0) -> Loaded:
    """The model with its processor, all of it frozen, as `load_model` gives it."""
    model = tiny_model(kind, seed=seed).requires_grad_(False).eval()
    model.set_attn_implementation("sdpa")
    return Loaded(model=model, processor=tiny_processor(kind), family=LLAVA, dtype="float32")


def tiny_trained(train: str = "full", *, kind: str = "qwen2", seed: int = 0, **options: Any) -> Loaded:
    """The model with something to train; adapters are stirred, since fresh ones change nothing."""
    loaded = choose_trained(tiny_loaded(kind, seed=seed), train=train, rank=4, alpha=8, **options)
    if train == "lora":
        stir_adapters(loaded, seed=seed)
    return loaded


def stir_adapters(loaded: Loaded, *, seed: int = 0) -> None:
    """Give fresh adapters, whose second matrix is zero, something to say."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in loaded.trained().items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def tiny_policy(loaded: Loaded, *, temperature: float = 1.0) -> Policy:
    """The policy of a loaded model."""
    return Policy(loaded.model, loaded.family, autocast=loaded.autocast, temperature=temperature)


def tiny_inputs(loaded: Loaded) -> Inputs:
    """The reader of prompts, for pictures inside their rows."""
    return Inputs(
        processor=loaded.processor,
        family=loaded.family,
        turns=loaded.turns,
        store=ImageStore(None, max_pixels=10**6, max_bytes=10**6),
    )


def picture(seed: int) -> ImageInput:
    """A picture of random pixels, ready for the tower."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(3, SHAPE.image_size, SHAPE.image_size, generator=generator) * 2 - 1
    return ImageInput(key=f"picture-{seed}", num_tokens=PICTURE_TOKENS, load=lambda: pixels)


def prompt_tokens(name: str, *, images: Sequence[ImageInput] = (), num_text: int = 5, seed: int = 0) -> PromptTokens:
    """A prompt of random text tokens, its pictures spread among them."""
    ids = random_ids(num_text, seed)
    for number, image in enumerate(images):
        place = 1 + number * (image.num_tokens + 1)
        ids[place:place] = [tiny_processor().image_token_id] * image.num_tokens
    return PromptTokens(id=name, ids=tuple(ids), images=tuple(images))


def random_ids(num: int, seed: int) -> list[int]:
    """Tokens that are no special ones."""
    rng = np.random.default_rng(seed)
    return rng.integers(4, len(tiny_processor().tokenizer), num).tolist()


def ragged_batch(*, num_answers: int = 2, seed: int = 0) -> Batch:
    """Three groups, with one picture, two pictures (one of them the first's) and none; ragged answers, one of
    a single token; the first two answers of each group are a pair."""
    first, second = picture(seed), picture(seed + 1)
    prompts = [
        prompt_tokens("one", images=(first,), num_text=7, seed=seed),
        prompt_tokens("two", images=(second, first), num_text=9, seed=seed + 1),
        prompt_tokens("none", num_text=4, seed=seed + 2),
    ]
    rng = np.random.default_rng(seed)
    lengths = [[int(n) for n in rng.integers(1, 9, num_answers)] for _ in prompts]
    lengths[0][-1], lengths[1][0] = 1, 9
    answers = [[random_ids(n, seed + 100 * g + i) for i, n in enumerate(row)] for g, row in enumerate(lengths)]
    pairs = [(g * num_answers, g * num_answers + 1) for g in range(3) if num_answers > 1]
    return make_batch(prompts, answers, pairs=pairs, pair_columns={"margin": [1.0] * len(pairs)})


def with_random_reference(batch: Batch, *, seed: int = 0) -> Batch:
    """The batch with made-up log-probabilities of a reference."""
    generator = torch.Generator().manual_seed(seed)
    reference = -torch.rand(batch.tokens.shape, generator=generator) * 5
    return batch.with_columns(ref_logprobs=reference * batch.mask)


def png(seed: int, *, side: int = SHAPE.image_size) -> bytes:
    """A picture file of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    held = io.BytesIO()
    Pillow.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def tiny_prompt(name: str, *, num_images: int = 1, seed: int = 0, text: str = "List what you see.") -> Prompt:
    """A prompt record with pictures of random pixels inside."""
    images = tuple(Image(data=png(seed + i)) for i in range(num_images))
    return Prompt(id=name, messages=(Message(role="user", content=(*images, text)),))


def tiny_groups(num: int, *, seed: int = 0) -> list[Group]:
    """Groups with zero, one or two pictures and a preferred and another answer of random words."""
    rng = np.random.default_rng(seed)

    def words() -> str:
        return "".join(WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(1, 7)))

    return [
        Group(
            prompt=tiny_prompt(f"{i}", num_images=(1, 1, 2, 0)[i % 4], seed=seed + 10 * i),
            completions=(Completion(text=words()), Completion(text=words())),
            signals=(Pair(chosen=0, rejected=1, source="rules"),),
        )
        for i in range(num)
    ]


def gradients(parameters: dict[str, nn.Parameter], total: Tensor) -> dict[str, Tensor]:
    """Gradient of a total by every parameter; zeros where it does not reach."""
    for parameter in parameters.values():
        parameter.grad = None
    total.backward()
    return taken_gradients(parameters)


def taken_gradients(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """What lies in `.grad` now; zeros where nothing does."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for name, p in parameters.items()}


def step_in_micro_batches(
    policy: Policy, batch: Batch, weights: Tensor, trained: dict[str, nn.Parameter], *, token_budget: int = 10**6
) -> None:
    """A weighted sum of log-probs backward in as many micro-batches as can be; each image is encoded once, or once
    more where the budget makes portions of them."""
    for parameter in trained.values():
        parameter.grad = None
    images = [image for prompt in batch.prompts for image in prompt.images]
    policy.vision.begin_step(policy.vision.portions(images, token_budget=token_budget))
    row = 0
    for micro in split(batch, token_budget=1):
        part = weights[row : row + micro.num_answers, : micro.tokens.shape[1]]
        (policy.score(micro).logprobs * part).sum().backward()
        row += micro.num_answers
    policy.vision.end_step()
    assert row == batch.num_answers


def largest_difference(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Over all parameters: norm of the difference over the larger of the wanted norm and a thousandth of the
    whole gradient's norm."""
    assert found.keys() == wanted.keys()
    whole = float(torch.stack([g.norm() for g in wanted.values()]).norm())
    assert whole > 0
    return max(
        float((found[name] - wanted[name]).norm()) / max(float(wanted[name].norm()), whole / 1000) for name in wanted
    )


def hold_together(loaded: Loaded, batch: Batch, *, want: frozenset[str] = BOTH, temperature: float = 1.0) -> None:
    """Fast and plain agree per token, and after the same random weighting in every parameter's gradient."""
    policy = tiny_policy(loaded, temperature=temperature)
    weights = torch.randn(2, *batch.tokens.shape)
    found = {}
    for name, score in (("fast", policy.score), ("plain", policy.score_plain)):
        scores = score(batch, want=want)
        total = (scores.logprobs * weights[0]).sum()
        if scores.entropy is not None:
            total = total + (scores.entropy * weights[1]).sum()
        found[name] = scores, gradients(loaded.trained(), total)
    (fast, fast_gradients), (plain, plain_gradients) = found["fast"], found["plain"]
    assert float((fast.logprobs - plain.logprobs).detach().abs().max()) <= TOLERANCE
    assert bool((fast.logprobs[~batch.mask] == 0).all())
    assert (fast.entropy is not None) == ("entropy" in want)
    if fast.entropy is not None and plain.entropy is not None:
        assert float((fast.entropy - plain.entropy).detach().abs().max()) <= TOLERANCE
    assert largest_difference(fast_gradients, plain_gradients) <= TOLERANCE


def _changed(config: LlavaConfig, kind: str) -> LlavaConfig:
    text, vision = config.text_config, config.vision_config
    if kind == "llama":
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        same = {name: text.to_dict()[name] for name in names}
        text = LlamaConfig(num_key_value_heads=SHAPE.text_kv_heads, tie_word_embeddings=False, **same)
    if kind == "siglip":
        vision = SiglipVisionConfig(
            hidden_size=SHAPE.vision_width,
            intermediate_size=SHAPE.vision_mlp,
            num_hidden_layers=SHAPE.vision_layers,
            num_attention_heads=SHAPE.vision_heads,
            image_size=SHAPE.image_size,
            patch_size=SHAPE.patch_size,
        )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=config.image_token_id,
        image_seq_length=PICTURE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full" if kind == "siglip" else "default",
        tie_word_embeddings=kind != "llama",
    )


def _stir(model: nn.Module, seed: int) -> None:
    """Draw every weight with unit gain; stir biases and norms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(noise * 0.1)
