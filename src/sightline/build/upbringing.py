"""Runs the tiny model's stages (`sightline world build`): patches, exact answers, bad teaching.

Deterministic for a seed on one machine and thread count. Each stage ends in an ordinary checkpoint folder, from
which a killed build goes on.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sightline.batch import Batch, ImageInput, PromptTokens, make_batch
from sightline.build.card import SCENES, measure_abilities, write_card
from sightline.build.clip import build_clip
from sightline.build.course import Course, scene_pixels
from sightline.models.arithmetic import arithmetic, autocast_of
from sightline.models.families import LLAVA
from sightline.models.forward import Policy
from sightline.models.tiny import (
    TinyModel,
    TinyProcessor,
    TinyShape,
    load_tiny,
    make_model,
    make_processor,
    save_tiny,
)
from sightline.objectives.imitation import sft_objective
from sightline.progress import Say, say
from sightline.train.engine import Engine
from sightline.train.optim import make_optimiser
from sightline.world.patches import CODE_SIZE, HEADS, patch_codes, patch_targets
from sightline.world.scenes import Scene
from sightline.world.stages import CEILING_AFTER, FIRST_INDEX, STAGES, Stage, lessons, taught_answer
from sightline.world.vocabulary import CHAT_TEMPLATE, pieces
from sightline.world.weights import FOLDER


def bring_up(out: Path, *, seed: int, scale: float, say: Say) -> tuple[Path, Path]:
    """Run all stages into `out`; returns the folders of the ceiling and of the base."""
    say(str(arithmetic()))
    shape = TinyShape()
    processor = make_processor(pieces(), CHAT_TEMPLATE, shape)
    model = make_model(processor, shape, seed=seed)
    folders: dict[str, Path] = {}
    first_index = FIRST_INDEX
    for number, stage in enumerate(STAGES):
        folder = out / f"{number + 1}-{stage.name.replace(' ', '-')}"
        num_steps = max(1, round(stage.num_steps * scale))
        folders[stage.name] = folder
        if (folder / "done").exists():
            say(f"{stage.name}: kept from before ({folder})")
        else:
            began = time.monotonic()
            torch.manual_seed(seed + number)
            teach = {"patches": teach_patches, "codes": teach_codes, "answers": teach_answers}[stage.kind]
            course = Course(stage=stage, num_steps=num_steps, first_index=first_index, seed=seed)
            teach(model, processor, course, say)
            save_tiny(model, processor, folder)
            (folder / "done").write_text(f"{time.monotonic() - began:.0f} seconds\n")
        model = load_tiny(folder)  # also after teaching: a build that was killed in between sees the same bfloat16
        first_index += num_steps * stage.scenes_per_step
    return folders[CEILING_AFTER], folders[STAGES[-1].name]


def teach_patches(model: TinyModel, processor: TinyProcessor, course: Course, say: Say) -> None:
    """The tower learns to name what each patch shows; the naming heads are thrown away."""
    heads = nn.Linear(TinyShape().vision_width, sum(HEADS.values()))

    def loss_of(scenes: list[Scene], named: Tensor) -> Tensor:
        targets = torch.from_numpy(np.stack([patch_targets(scene) for scene in scenes]))
        parts = named.split(list(HEADS.values()), -1)
        losses = [cross_entropy(part.flatten(0, 1), targets[:, i].flatten()) for i, part in enumerate(parts)]
        return torch.stack(losses).sum()

    _teach_seeing(model, processor, course, heads, loss_of, say)


def teach_codes(model: TinyModel, processor: TinyProcessor, course: Course, say: Say) -> None:
    """The projector learns to write a code in which all that a patch shows weighs the same (world/patches.py)."""
    projector = model.model.multi_modal_projector
    basis = torch.linalg.qr(torch.randn(TinyShape().text_width, CODE_SIZE)).Q

    def loss_of(scenes: list[Scene], written: Tensor) -> Tensor:
        codes = torch.from_numpy(np.stack([patch_codes(patch_targets(scene)) for scene in scenes]))
        return (written - codes @ basis.T).square().sum(-1).mean()

    _teach_seeing(model, processor, course, projector, loss_of, say)


def _teach_seeing(
    model: TinyModel,
    processor: TinyProcessor,
    course: Course,
    on_top: nn.Module,
    loss_of: Callable[[list[Scene], Tensor], Tensor],
    say: Say,
) -> None:
    """Train the tower and what stands on it; `loss_of` judges what the two make of each patch of some scenes."""
    tower, autocast = model.model.vision_tower, autocast_of(arithmetic().dtype)
    parameters = [*tower.parameters(), *on_top.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=course.stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    for step, scenes in enumerate(course.scenes()):
        for group in optimiser.param_groups:
            group["lr"] = course.rate(step)
        pixels = torch.stack([scene_pixels(processor.image_processor, scene) for scene in scenes])
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            made = on_top(tower(pixels).last_hidden_state[:, 1:])
        loss = loss_of(scenes, made.float())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        course.tell(step, loss.item(), say)


def teach_answers(model: TinyModel, processor: TinyProcessor, course: Course, say: Say) -> None:
    """All questions about a scene in one tree: the picture once, each question with its answer a branch."""
    model.requires_grad_(True)
    model.model.vision_tower.requires_grad_(False)
    policy = Policy(model, LLAVA, autocast=autocast_of(arithmetic().dtype), keep_feature_bytes=0)
    engine = Engine(
        policy=policy,
        objective=sft_objective(),
        optimiser=make_optimiser(
            model.parameters(), learning_rate=course.stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
        ),
        schedule=course.rate,
        token_budget=100_000,
        max_grad_norm=1.0,
        quarantine=lambda batch, step, why: "nowhere",
    )
    for step, scenes in enumerate(course.scenes()):
        metrics = engine.update(lesson_batch(processor, course.stage, scenes, seed=course.seed))
        course.tell(step, metrics["loss/total"], say)
    model.requires_grad_(True)


def lesson_batch(processor: TinyProcessor, stage: Stage, scenes: list[Scene], *, seed: int) -> Batch:
    """Scenes as prompts of a picture alone, questions with answers as branches; only the answers are scored."""
    tokenizer = processor.tokenizer
    before, after = (tokenizer(text).input_ids for text in ("USER: ", "\n"))
    prompts, answers, starts = [], [], []
    for scene in scenes:
        image = scene_image(processor, scene)
        ids = (*before, *[processor.image_token_id] * image.num_tokens, *after)
        prompts.append(PromptTokens(id=scene.id, ids=ids, images=(image,)))
        rng = np.random.Generator(np.random.PCG64([seed, 4, scene.index, len(stage.name)]))
        branches = []
        for question in lessons(stage, scene, seed=seed):
            asked = tokenizer(f"{question.text} ASSISTANT: ").input_ids
            answer = tokenizer(taught_answer(question, stage.habits, rng)).input_ids
            branches.append([*asked, *answer, tokenizer.eos_token_id])
            starts.append(len(asked))
        answers.append(branches)
    batch = make_batch(prompts, answers)
    scored = torch.arange(batch.tokens.shape[1])[None, :] >= torch.as_tensor(starts)[:, None]
    batch.mask.logical_and_(scored)
    return batch


def scene_image(processor: TinyProcessor, scene: Scene) -> ImageInput:
    """A scene as an image input, keyed by its id."""
    patch = TinyShape().patch_size
    num_tokens = (scene.width // patch) * (scene.height // patch)
    return ImageInput(key=scene.id, num_tokens=num_tokens, load=lambda: scene_pixels(processor.image_processor, scene))


def world_build(
    *, out: Path, seed: int = 0, scale: float = 1.0, only: Literal["clip"] | None = None, say: Say = say
) -> Path:
    """Build the tiny models from nothing into `out`: base, ceiling, clip and their cards. A killed build goes on.

    With `only` "clip" the contrastive model alone is built, from the tower of the ceiling that ships.
    """
    out.mkdir(parents=True, exist_ok=True)
    scenes = max(20, round(SCENES * min(1.0, scale)))
    ceiling, base = FOLDER / "ceiling", FOLDER / "base"
    if only is None:
        ceiling, base = bring_up(out, seed=seed, scale=scale, say=say)
        _finish(out, ceiling=ceiling, base=base, scenes=scenes, say=say)
    build_clip(out, ceiling=ceiling, base=base, seed=seed, scale=scale, scenes=scenes, say=say)
    names = "the folder clip" if only else "the folders base, ceiling and clip, CARD.md and abilities.json"
    say(f"everything is in {out}; to ship it, copy {names} into sightline/world/models")
    return out


def _finish(out: Path, *, ceiling: Path, base: Path, scenes: int, say: Say) -> None:
    """Measure base and ceiling, copy them out of their stages' folders, and write their card."""
    seconds = {}
    for number, stage in enumerate(STAGES):
        seconds[stage.name] = (out / f"{number + 1}-{stage.name.replace(' ', '-')}" / "done").read_text().strip()
    abilities = {}
    for name, folder in (("base", base), ("ceiling", ceiling)):
        say(f"measuring {name} on {scenes} scenes a task")
        abilities[name] = measure_abilities(folder, scenes=scenes)
        shutil.copytree(folder, out / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("done"))
    write_card(out, abilities, seconds=seconds, scenes=scenes)
