"""Those that are measured: our step, the same step with the plain twin, and TRL's; on one model and the same data.

All share the model, the reference, the trained parameters and the batches; each has an optimiser of its own. A step is
everything from batch to updated weights, the reference's pass included unless it is kept; pictures are pixels already.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from bench.shapes import Shape, Workload, build, picture, words
from sightline.batch import Batch, ImageInput, PromptTokens, make_batch
from sightline.models.families import Family, family_of
from sightline.models.forward import Policy
from sightline.models.load import Loaded, choose_trained, use_checkpointing
from sightline.objectives.advantages import grpo
from sightline.objectives.objective import Objective
from sightline.objectives.preference import dpo_objective
from sightline.objectives.reinforcement import grpo_objective
from sightline.train.engine import Engine
from sightline.train.optim import make_optimiser

BETA, KL_WEIGHT, LEARNING_RATE, MAX_GRAD_NORM = 0.1, 0.04, 1e-6, 1.0
TOKEN_BUDGET = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do the step."""

    name: str
    """For tables."""
    step: Callable[[int], float]
    """A whole step on the batch of this number; its loss."""
    gradients: Callable[[int], float]
    """The same without the update: gradients stay in `.grad`."""
    before: Callable[[], None] = lambda: None
    """Outside the clock: sets the shared model up."""
    images: Callable[[], int] = lambda: 0
    """Images encoded so far, where somebody counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the contenders share."""

    workload: Workload
    """What is done."""
    loaded: Loaded
    """The model, with what is trained unfrozen."""
    reference: Any
    """A frozen copy of the model; None where adapters are switched off instead."""
    batches: Sequence[Batch]
    """Batches with pictures of their own, taken in turn."""
    device: str
    """Where the model is."""

    @property
    def shape(self) -> Shape:
        """The model's."""
        return self.workload.shape


def set_the_scene(workload: Workload, *, device: str, dtype: str, num_batches: int = 3) -> Scene:
    """Model, reference and batches of a workload."""
    shape = workload.shape
    family = unbanned(family_of(shape.config().model_type))
    weights = torch.bfloat16 if shape.adapters else torch.float32
    model = build(shape, device=device, dtype=weights)
    reference = None if shape.adapters else build(shape, device=device, dtype=weights)
    loaded = Loaded(model=model, processor=shape.processor(), family=family, dtype=dtype)
    loaded = choose_trained(
        loaded,
        train="lora" if shape.adapters else "full",
        train_tower=workload.work.tower_trained,
        train_projector=workload.work.tower_trained,
    )
    batches = [make(workload, family, loaded.processor, seed=1000 * n) for n in range(num_batches)]
    return Scene(workload=workload, loaded=loaded, reference=reference, batches=batches, device=device)


def unbanned(family: Family) -> Family:
    """The family with media tokens left in the distribution, as TRL has it; ours takes them out on both sides."""
    return replace(family, media_tokens=lambda config: ())


def make(workload: Workload, family: Family, processor: Any, *, seed: int) -> Batch:
    """A batch of noise pictures and random words; pairs or advantages as the objective wants."""
    shape, work = workload.shape, workload.work
    prompts = [_prompt(shape, family, processor, seed=seed + n) for n in range(work.prompts)]
    answers = [
        [words(work.answer_tokens, seed + 100 * n + k) for k in range(work.answers)] for n in range(work.prompts)
    ]
    if workload.objective == "dpo":
        return make_batch(prompts, answers, pairs=[(2 * n, 2 * n + 1) for n in range(work.prompts)])
    batch = make_batch(prompts, answers)
    rewards = torch.rand(work.rows, generator=torch.Generator().manual_seed(seed))
    return batch.with_columns(advantages=grpo(rewards, batch.group))


def _prompt(shape: Shape, family: Family, processor: Any, *, seed: int) -> PromptTokens:
    look, size = family.look(processor, picture(shape.side, seed), True), shape.tower.features
    before, after = shape.around
    filler = shape.config().image_token_id
    ids = (*before, *[filler] * size, *after, *words(shape.prompt_tokens - len(before) - size - len(after), seed))
    image = ImageInput(key=f"picture-{seed}", num_tokens=size, grid=look.grid, load=lambda: look.pixels)
    return PromptTokens(id=str(seed), ids=ids, images=(image,))


def objective_of(workload: Workload) -> Objective:
    """The loss that both sides compute."""
    return dpo_objective(beta=BETA) if workload.objective == "dpo" else grpo_objective(kl_weight=KL_WEIGHT)


def our_step(scene: Scene) -> Contender:
    """Prompt once, image once; a frozen tower's features are kept, and the reference's log-probs where it is said."""
    work = scene.workload.work
    policy = _policy(scene, scene.loaded.model)
    reference = policy if scene.reference is None else _policy(scene, scene.reference)
    if policy.vision.frozen:
        reference.vision = policy.vision
    batches = [_with_behaviour(scene, batch, policy.score) for batch in scene.batches]
    if work.keep_features:
        for batch in batches:
            policy.vision.features([image for prompt in batch.prompts for image in prompt.images])
    if work.keep_reference:
        batches = [_with_reference(scene, batch, reference.score) for batch in batches]
    engine = _engine(scene, policy)

    def given(number: int) -> Batch:
        batch = batches[number % len(batches)]
        return batch if work.keep_reference else _with_reference(scene, batch, reference.score)

    before = (lambda: use_checkpointing(scene.loaded)) if scene.shape.checkpointing else (lambda: None)
    return Contender(
        name="sightline",
        step=lambda number: engine.update(given(number))["loss/total"],
        gradients=lambda number: _loss(engine, given(number)),
        before=before,
        images=lambda: (
            policy.vision.num_encoded + (reference.vision is not policy.vision) * reference.vision.num_encoded
        ),
    )


def plain_step(scene: Scene) -> Contender:
    """The same engine and loss with one padded row per answer."""
    policy = _policy(scene, scene.loaded.model)
    reference = policy if scene.reference is None else _policy(scene, scene.reference)
    nothing = SimpleNamespace(
        portions=lambda images, token_budget: [],
        begin_step=lambda portions: None,
        end_step=lambda: None,
        abandon_step=lambda: None,
    )
    twin = SimpleNamespace(model=policy.model, score=policy.score_plain, vision=nothing, sharding=None)
    batches = [_with_behaviour(scene, batch, policy.score_plain) for batch in scene.batches]
    engine = _engine(scene, twin)

    def given(number: int) -> Batch:
        return _with_reference(scene, batches[number % len(batches)], reference.score_plain)

    before = (lambda: use_checkpointing(scene.loaded)) if scene.shape.checkpointing else (lambda: None)
    return Contender(
        name="plain twin",
        step=lambda number: engine.update(given(number))["loss/total"],
        gradients=lambda number: _loss(engine, given(number)),
        before=before,
    )


def _policy(scene: Scene, model: Any) -> Policy:
    keep = 2**30 if scene.workload.work.keep_features else 0
    loaded = scene.loaded
    return Policy(model, loaded.family, autocast=loaded.autocast, keep_feature_bytes=keep, keep_batch=64)


def _engine(scene: Scene, policy: Any) -> Engine:
    return Engine(
        policy=policy,
        objective=objective_of(scene.workload),
        optimiser=make_optimiser(scene.loaded.trained().values(), learning_rate=LEARNING_RATE),
        schedule=lambda step: LEARNING_RATE,
        token_budget=TOKEN_BUDGET,
        max_grad_norm=MAX_GRAD_NORM,
        quarantine=lambda batch, step, why: "nowhere",
    )


def _loss(engine: Engine, batch: Batch) -> float:
    totals, counts = engine.accumulate(batch)
    return sum(weight * totals[f"loss/{k}"] / counts[f"loss/{k}"] for k, weight in engine.objective.weights.items())


@torch.no_grad()
def _with_reference(scene: Scene, batch: Batch, score: Callable[..., Any]) -> Batch:
    with without_adapters(scene):
        return batch.with_columns(ref_logprobs=score(batch).logprobs)


@torch.no_grad()
def _with_behaviour(scene: Scene, batch: Batch, score: Callable[..., Any]) -> Batch:
    """What the sampler said of its tokens, in RL; it is there before the step."""
    return batch if scene.workload.objective == "dpo" else batch.with_columns(behaviour_logprobs=score(batch).logprobs)


@contextlib.contextmanager
def without_adapters(scene: Scene) -> Iterator[None]:
    """The reference where there is no second model."""
    with scene.loaded.adapter.disable_adapter() if scene.loaded.adapter is not None else contextlib.nullcontext():
        yield


def flat_gradient(scene: Scene) -> Tensor:
    """All gradients in one vector, which are then forgotten."""
    trained = scene.loaded.trained().values()
    found = torch.cat([p.grad.flatten().float() for p in trained if p.grad is not None])
    for parameter in trained:
        parameter.grad = None
    return found
