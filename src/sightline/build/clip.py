"""Runs the contrastive model's stage (part of `sightline world build`): true captions near, false ones away.

The loss is CLIP's symmetric cross entropy over a batch (Radford et al., arXiv:2103.00020, figure 3). Besides, each
picture has false captions of its own to be told from, one for every kind of change (hard negatives, as NegCLIP has
them: Yuksekgonul et al., arXiv:2210.01936). Left out: pictures that differ little, as negatives of a caption.
Deterministic for a seed on one machine and thread count.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sightline.build.clip_card import measure_clip, write_clip_card
from sightline.build.course import Course, scene_pixels
from sightline.models.arithmetic import arithmetic, autocast_of
from sightline.models.contrast import embed_pictures, embed_texts
from sightline.models.tiny import load_tiny
from sightline.models.tiny_clip import (
    ClipModel,
    ClipProcessor,
    ClipShape,
    make_clip,
    make_clip_processor,
    save_clip,
    take_tower,
)
from sightline.progress import Say
from sightline.world.captions import CHANGES, Labels, caption
from sightline.world.scenes import Scene
from sightline.world.stages import CLIP_FIRST_INDEX, CLIP_STAGE, STAGES
from sightline.world.tasks import sentence
from sightline.world.vocabulary import words

LARGEST_SCALE = 100.0
"""What the inverse temperature may grow to, as in CLIP."""


def build_clip(out: Path, *, ceiling: Path, base: Path, seed: int, scale: float, scenes: int, say: Say) -> Path:
    """The contrastive model with its card in `out`/clip; measured on what the base answers."""
    folder = bring_up_clip(out, ceiling=ceiling, seed=seed, scale=scale, say=say)
    shutil.copytree(folder, out / "clip", dirs_exist_ok=True, ignore=shutil.ignore_patterns("done"))
    say(f"measuring clip on {scenes} scenes")
    abilities, spread = measure_clip(out / "clip", base=base, scenes=scenes, say=say)
    seconds = (folder / "done").read_text().strip()
    write_clip_card(out / "clip", abilities, spread, seconds=seconds, scenes=scenes)
    return out / "clip"


def bring_up_clip(out: Path, *, ceiling: Path, seed: int, scale: float, say: Say) -> Path:
    """Run the stage into a folder below `out`, or keep what an earlier build finished; returns the folder."""
    folder = out / f"{len(STAGES) + 1}-{CLIP_STAGE.name}"
    if (folder / "done").exists():
        say(f"{CLIP_STAGE.name}: kept from before ({folder})")
        return folder
    began = time.monotonic()
    shape = ClipShape()
    processor = make_clip_processor(words(), shape)
    model = make_clip(processor, shape, seed=seed)
    take_tower(model, load_tiny(ceiling))
    num_steps = max(1, round(CLIP_STAGE.num_steps * scale))
    teach_captions(
        model, processor, Course(stage=CLIP_STAGE, num_steps=num_steps, first_index=CLIP_FIRST_INDEX, seed=seed), say
    )
    save_clip(model, processor, folder)
    (folder / "done").write_text(f"{time.monotonic() - began:.0f} seconds\n")
    return folder


def teach_captions(model: ClipModel, processor: ClipProcessor, course: Course, say: Say) -> None:
    """Tower and text encoder learn together which captions are true."""
    model.set_attn_implementation("eager")  # on CPU the backward pass of the fused kernel is several times slower
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=course.stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
    )
    for step, scenes in enumerate(course.scenes()):
        for group in optimiser.param_groups:
            group["lr"] = course.rate(step)
        shown = [scene for scene in scenes if scene.shapes]
        loss = contrastive_loss(model, processor, shown, seed=course.seed)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        course.tell(step, loss.item(), say)
    model.set_attn_implementation("sdpa")


def contrastive_loss(model: ClipModel, processor: ClipProcessor, scenes: list[Scene], *, seed: int) -> Tensor:
    """Which caption belongs to a picture, and which picture to a caption: mean of the two cross entropies."""
    named, changed = _captions(scenes, seed=seed)
    pixels = torch.stack([scene_pixels(processor.image_processor, scene) for scene in scenes])
    autocast = autocast_of(arithmetic().dtype)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        pictures = embed_pictures(model, {"pixel_values": pixels})
        # One kind of caption at a time: some are far longer than others.
        texts = torch.stack([embed_texts(model, _tokens(processor, labels)) for labels in (named, *changed)])
    scale = model.logit_scale.exp().clamp(max=LARGEST_SCALE)
    among = scale * pictures @ texts[0].T
    also_true = torch.tensor([[set(labels) <= set(scene.labels) for labels in named] for scene in scenes])
    among = among.masked_fill(also_true.fill_diagonal_(False), float("-inf"))
    own = scale * (pictures * texts[1:]).sum(-1).T
    right = torch.arange(len(scenes))
    return (cross_entropy(torch.cat([among, own], 1), right) + cross_entropy(among.T, right)) / 2


def _captions(scenes: list[Scene], *, seed: int) -> tuple[list[Labels], list[list[Labels]]]:
    """A true caption of each scene, and for every kind of change the false ones made of them."""
    rngs = [np.random.Generator(np.random.PCG64([seed, 5, scene.index])) for scene in scenes]
    named = [caption(scene, rng) for scene, rng in zip(scenes, rngs, strict=True)]
    rows = zip(named, scenes, rngs, strict=True)
    false = [[change(*row) for change in CHANGES.values()] for row in rows]
    return named, [list(column) for column in zip(*false, strict=True)]


def _tokens(processor: ClipProcessor, named: list[Labels]) -> Mapping[str, Tensor]:
    return processor.tokenizer([sentence(labels) for labels in named], padding=True, return_tensors="pt")
