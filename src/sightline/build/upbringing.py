"""Runs the tiny model's stages (`sightline world build`): patches, exact answers, bad teaching.

Deterministic for a seed on one machine and thread count. Each stage ends in an ordinary checkpoint folder, from
which a killed build goes on.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sightline.batch import Batch, ImageInput, PromptTokens, make_batch
from sightline.build.card import SCENES, measure_abilities, write_card
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
from sightline.train.engine import Engine
from sightline.train.optim import Schedule, make_optimiser
from sightline.world.patches import CODE_SIZE, HEADS, patch_codes, patch_targets
from sightline.world.scenes import Scene, draw, make_scene
from sightline.world.stages import CEILING_AFTER, FIRST_INDEX, STAGES, Stage, lessons, taught_answer
from sightline.world.vocabulary import CHAT_TEMPLATE, pieces

Say = Callable[[str], None]
LOG_EVERY = 25


def bring_up(out: Path, *, seed: int, scale: float, say: Say) -> tuple[Path, Path]:
    """Run all stages into `out`; returns the folders of the ceiling and of the base."""
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
            model = load_tiny(folder)
        else:
            began = time.monotonic()
            torch.manual_seed(seed + number)
            teach = {"patches": teach_patches, "codes": teach_codes, "answers": teach_answers}[stage.kind]
            teach(model, processor, stage, num_steps=num_steps, first_index=first_index, seed=seed, say=say)
            save_tiny(model, processor, folder)
            (folder / "done").write_text(f"{time.monotonic() - began:.0f} seconds\n")
        first_index += num_steps * stage.scenes_per_step
    return folders[CEILING_AFTER], folders[STAGES[-1].name]


def teach_patches(
    model: TinyModel,
    processor: TinyProcessor,
    stage: Stage,
    *,
    num_steps: int,
    first_index: int,
    seed: int,
    say: Say,
) -> None:
    """The tower learns to name what each patch shows; the naming heads are thrown away."""
    tower = model.model.vision_tower
    heads = nn.Linear(TinyShape().vision_width, sum(HEADS.values()))
    parameters = [*tower.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = _schedule(stage, num_steps)
    for step, scenes in enumerate(_scenes(stage, num_steps, first_index, seed)):
        for group in optimiser.param_groups:
            group["lr"] = schedule(step)
        pixels = torch.stack([scene_pixels(processor, scene) for scene in scenes])
        targets = torch.from_numpy(np.stack([patch_targets(scene) for scene in scenes]))
        with torch.autocast("cpu", torch.bfloat16):
            named = heads(tower(pixels).last_hidden_state[:, 1:])
        parts = named.float().split(list(HEADS.values()), -1)
        losses = [cross_entropy(p.flatten(0, 1), targets[:, i].flatten()) for i, p in enumerate(parts)]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % LOG_EVERY == 0 or step == num_steps - 1:
            say(f"{stage.name}: step {step + 1} of {num_steps}, loss {loss.item():.3f}")


def teach_codes(
    model: TinyModel,
    processor: TinyProcessor,
    stage: Stage,
    *,
    num_steps: int,
    first_index: int,
    seed: int,
    say: Say,
) -> None:
    """The projector learns to write a code in which all that a patch shows weighs the same (world/patches.py)."""
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    parameters = [*tower.parameters(), *projector.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = _schedule(stage, num_steps)
    basis = torch.linalg.qr(torch.randn(TinyShape().text_width, CODE_SIZE)).Q
    for step, scenes in enumerate(_scenes(stage, num_steps, first_index, seed)):
        for group in optimiser.param_groups:
            group["lr"] = schedule(step)
        pixels = torch.stack([scene_pixels(processor, scene) for scene in scenes])
        codes = torch.from_numpy(np.stack([patch_codes(patch_targets(scene)) for scene in scenes]))
        with torch.autocast("cpu", torch.bfloat16):
            written = projector(tower(pixels).last_hidden_state[:, 1:])
        loss = (written.float() - codes @ basis.T).square().sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % LOG_EVERY == 0 or step == num_steps - 1:
            say(f"{stage.name}: step {step + 1} of {num_steps}, loss {loss.item():.3f}")


def teach_answers(
    model: TinyModel,
    processor: TinyProcessor,
    stage: Stage,
    *,
    num_steps: int,
    first_index: int,
    seed: int,
    say: Say,
) -> None:
    """All questions about a scene in one tree: the picture once, each question with its answer a branch."""
    model.requires_grad_(True)
    model.model.vision_tower.requires_grad_(False)
    policy = Policy(model, LLAVA, autocast=torch.bfloat16, keep_feature_bytes=0)
    engine = Engine(
        policy=policy,
        objective=sft_objective(),
        optimiser=make_optimiser(
            model.parameters(), learning_rate=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
        ),
        schedule=_schedule(stage, num_steps),
        token_budget=100_000,
        max_grad_norm=1.0,
        quarantine=lambda batch, step, why: "nowhere",
    )
    for step, scenes in enumerate(_scenes(stage, num_steps, first_index, seed)):
        metrics = engine.update(lesson_batch(processor, stage, scenes, seed=seed))
        if step % LOG_EVERY == 0 or step == num_steps - 1:
            say(f"{stage.name}: step {step + 1} of {num_steps}, loss {metrics['loss/total']:.4f}")
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


def scene_pixels(processor: TinyProcessor, scene: Scene) -> Tensor:
    """What the tower sees of a scene of the training canvas: the processor's arithmetic without its overhead."""
    picture = torch.from_numpy(draw(scene)).permute(2, 0, 1).float()
    images = processor.image_processor
    mean, deviation = (torch.tensor(x)[:, None, None] for x in (images.image_mean, images.image_std))
    return (picture / 255 - mean) / deviation


def scene_image(processor: TinyProcessor, scene: Scene) -> ImageInput:
    """A scene as an image input, keyed by its id."""
    patch = TinyShape().patch_size
    num_tokens = (scene.width // patch) * (scene.height // patch)
    return ImageInput(key=scene.id, num_tokens=num_tokens, load=lambda: scene_pixels(processor, scene))


def _scenes(stage: Stage, num_steps: int, first_index: int, seed: int) -> Iterator[list[Scene]]:
    for step in range(num_steps):
        first = first_index + step * stage.scenes_per_step
        yield [make_scene("train", first + i, seed=seed) for i in range(stage.scenes_per_step)]


def _schedule(stage: Stage, num_steps: int) -> Schedule:
    """Linear warm-up over at most 100 steps times a cosine from the peak to a fiftieth of it."""
    num_warmup = min(100, max(1, num_steps // 10))

    def rate(step: int) -> float:
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        return stage.learning_rate * min(1, (step + 1) / num_warmup) * cosine

    return rate


def world_build(*, out: Path, seed: int = 0, scale: float = 1.0, say: Say = print) -> Path:
    """Build the tiny models from nothing into `out`: base, ceiling and their card. A killed build goes on."""
    out.mkdir(parents=True, exist_ok=True)
    ceiling, base = bring_up(out, seed=seed, scale=scale, say=say)
    seconds = {}
    for number, stage in enumerate(STAGES):
        seconds[stage.name] = (out / f"{number + 1}-{stage.name.replace(' ', '-')}" / "done").read_text().strip()
    scenes = max(20, round(SCENES * min(1.0, scale)))
    abilities = {}
    for name, folder in (("base", base), ("ceiling", ceiling)):
        say(f"measuring {name} on {scenes} scenes a task")
        abilities[name] = measure_abilities(folder, scenes=scenes)
        shutil.copytree(folder, out / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("done"))
    card = write_card(out, abilities, seconds=seconds, scenes=scenes)
    say(f"models and card are in {out}; to ship them, copy base, ceiling and {card.name} into sightline/world/models")
    return out
