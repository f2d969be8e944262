"""What a run will need before it has begun: memory by part and seconds per step, in closed form from sizes and lengths.

Arithmetic alone: sizes come from a model's configuration, lengths from a sample of its data. The activations follow
what the packed forward keeps for its backward pass, tensor by tensor; speed is a rate of matrix products times the
share of it that training reaches. docs/doctor.md says how near the numbers come to what was measured.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sightline.build.rl import scored_anew
from sightline.config import Recipe
from sightline.models.forward import CHUNK_ELEMENTS
from sightline.models.outline import Sizes, Stack

FOUR_BITS = 0.52
"""Bytes of a weight in four bits with its share of doubly quantised scales, one in 64 weights."""
PEAK_OVER_KEPT = {"cpu": 1.25, "cuda": 1.1}
"""Peak of the backward pass over what the forward pass kept; on CPU the allocator holds on to what was freed."""
REACHED = {"cpu": {"float32": 0.7, "bfloat16": 0.45}, "cuda": {"float32": 0.4, "bfloat16": 0.4}}
"""Share of the rate of matrix products that a step reaches."""
SECONDS_PER_LAYER = {"cpu": 1e-3, "cuda": 8e-4}
"""Least time of one layer for one decoded token of all answers: starting its operations."""
LONGEST_ANSWER = 2.5
"""Length of the longest answer of a rollout over their mean."""
GPUS = {
    "h100": (80, 989e12, 3.35e12),
    "h200": (141, 989e12, 4.8e12),
    "a100": (80, 312e12, 2.0e12),
    "a100-40": (40, 312e12, 1.55e12),
    "l40s": (48, 362e12, 0.86e12),
    "a6000": (48, 155e12, 0.77e12),
    "4090": (24, 165e12, 1.0e12),
}
"""GiB, dense bfloat16 operations a second and bytes a second, as published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Mean tokens of the groups that a step reads."""

    prompt: float
    """Of a prompt, images included."""
    image: float
    """Those of its images."""
    answer: float
    """Of an answer."""
    answers: float
    """Answers to a prompt."""
    spread: float
    """Standard deviation of a group's packed tokens over their mean."""
    num_images: int
    """Pictures in the whole data, those that occur again included."""
    measured: int
    """Groups that were looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a run is to run."""

    name: str
    """For people."""
    kind: str
    """"cpu" or "cuda"."""
    rate: float
    """Operations a second of matrix products in the run's arithmetic."""
    bandwidth: float
    """Bytes a second between memory and processor."""
    memory: int | None
    """Bytes of one GPU."""
    own: int
    """Bytes that a process takes before it loads anything."""
    gpus: int = 1
    """Processes, each with a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one process needs."""

    memory: Mapping[str, int]
    """Part -> bytes. `activations` and `rollout cache` are never there together; nor are layers' weights `together`
    while there are activations."""
    peak: int
    """Most bytes at once."""
    seconds: Mapping[str, float]
    """Part of a step -> seconds."""

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return sum(self.seconds.values())


def estimate(recipe: Recipe, sizes: Sizes, lengths: Lengths, machine: Machine) -> Estimate:
    """Memory and time of one process of a run."""
    groups = max(1, recipe.train.groups_per_step // machine.gpus)
    parts = machine.gpus if recipe.train.shard else 1
    memory = {
        "weights": _weights(recipe, sizes) // parts + _beside(recipe, sizes),
        "together": sizes.weight_bytes if parts > 1 else 0,
        "gradients": 4 * sizes.trained // parts,
        "optimiser": 8 * sizes.trained // parts,
        "kept features": _features(recipe, sizes, lengths, machine),
        "activations": _activations(recipe, sizes, lengths, groups, machine),
        "rollout cache": _rollout(recipe, sizes, lengths, groups) if recipe.rewards else 0,
        "the process": machine.own,
    }
    in_a_pass = _in_a_pass(sizes) if parts > 1 else 0
    learning = memory["gradients"] + memory["activations"] + in_a_pass
    always = memory["weights"] + memory["optimiser"] + memory["kept features"] + machine.own
    peak = always + max(learning, memory["rollout cache"] + memory["together"])
    return Estimate(memory=memory, peak=peak, seconds=_seconds(recipe, sizes, lengths, groups, machine))


def group_tokens(lengths: Lengths) -> float:
    """Packed tokens of a group: its prompt once, and its answers less their last tokens."""
    return lengths.prompt + lengths.answers * max(0.0, lengths.answer - 1)


def _weights(recipe: Recipe, sizes: Sizes) -> int:
    """All parameters as they lie in memory; those of four bits with their scales."""
    saved = 0 if recipe.model.quantise is None else int(sizes.language.weights * (2 - FOUR_BITS))
    return sizes.weight_bytes - saved


def _in_a_pass(sizes: Sizes) -> int:
    """Weights that lie together while a pass lasts, where they are cut: two layers, and all that is no layer; and
    gradients of one layer and of the head before they are summed."""
    layers = 2 * sizes.language.weights // sizes.language.layers
    outside = 2 * sizes.vocabulary * sizes.language.width + sizes.tower.weights
    trained = 4 if sizes.trained_matrices else 0
    return (layers + outside) * (trained or 2) + trained * (layers // 2 + outside - sizes.tower.weights)


def _beside(recipe: Recipe, sizes: Sizes) -> int:
    """A copied reference; a critic's own trained weights with their gradients and moments."""
    critic = 16 * sizes.trained if recipe.objective.kind == "ppo" and recipe.critic.separate else 0
    return critic + (sizes.weight_bytes if recipe.reference.kind == "copy" else 0)


def _features(recipe: Recipe, sizes: Sizes, lengths: Lengths, machine: Machine) -> int:
    if sizes.trained_vision:
        return 0
    number = 4 if sizes.weight_bytes and machine.kind == "cpu" else 2
    return int(
        min(recipe.model.kept_features_mib * 2**20, lengths.num_images * lengths.image * sizes.language.width * number)
    )


def _activations(recipe: Recipe, sizes: Sizes, lengths: Lengths, groups: int, machine: Machine) -> int:
    """What a micro-batch keeps for its backward pass, and its logits."""
    group = group_tokens(lengths)
    in_micro = min(groups, max(1, int(recipe.train.token_budget // max(1.0, group))))
    half = recipe.model.dtype == "bfloat16"
    largest = 1 + 2 * lengths.spread / in_micro**0.5  # of many steps the peak is that of the longest
    part = min(1.0, max(recipe.train.token_budget, lengths.prompt + lengths.answer) / group)  # a large group is cut
    layer = _layer_bytes(sizes.language, lengths, half, machine) * in_micro * largest * part
    stream = in_micro * group * sizes.language.width * (2 if half else 4)
    kept = layer + sizes.language.layers * stream if recipe.model.gradient_checkpointing else None
    kept = layer * sizes.language.layers if kept is None else kept
    logits = 4 * 4 * min(in_micro * lengths.answers * lengths.answer * sizes.vocabulary, CHUNK_ELEMENTS)
    copies = 2 * sizes.language.weights if half and sizes.trained_matrices else 0  # autocast's, for the backward pass
    tower = _seeing_bytes(recipe, sizes, lengths, groups, half) if sizes.trained_vision else 0
    # a step of several portions keeps no graph of pictures while its micro-batches are at work
    both = kept + tower if _portions(recipe, lengths, groups) == 1 else max(kept, tower)
    return int(PEAK_OVER_KEPT[machine.kind] * both + logits + copies)


def _portions(recipe: Recipe, lengths: Lengths, groups: int) -> int:
    """Portions of a step's pictures, each of at most the token budget, in which a trained tower encodes them."""
    return max(1, math.ceil(groups * lengths.image / max(1.0, recipe.train.token_budget, lengths.image)))


def _seeing_bytes(recipe: Recipe, sizes: Sizes, lengths: Lengths, groups: int, half: bool) -> float:
    """What a trained tower keeps of one portion of pictures for its backward pass."""
    stack = sizes.tower
    patches = groups * lengths.image / _portions(recipe, lengths, groups) * sizes.patches_per_token
    if recipe.model.gradient_checkpointing:
        return patches * (_tower_bytes(stack) + stack.layers * stack.width * (2 if half else 4))
    return patches * _tower_bytes(stack) * stack.layers


def _layer_bytes(stack: Stack, lengths: Lengths, half: bool, machine: Machine) -> float:
    """One layer of the language model on one group: norms, inputs of matrices, attention, MLP."""
    number = 2 if half else 4
    tokens = group_tokens(lengths)
    width = stack.width
    norms = 16 * width  # both norms keep their input and what it is scaled to, in float32
    inputs = (7 if half else 3) * width * number  # under autocast every matrix has its own copy of its input
    mlp = 4 * stack.mlp * number
    seen = lengths.prompt + lengths.answers * (lengths.prompt + lengths.answer)
    keys = 2 * stack.kv_width * seen * number  # each answer has its prompt's keys and values beside its own
    pairs = lengths.prompt**2 + lengths.answers * lengths.answer * (lengths.prompt + lengths.answer)
    written_out = machine.kind == "cpu" or stack.kv_width < width  # grouped heads have no fused kernel with a mask
    weights = stack.heads * pairs * (6 if half else 4) if written_out else 0
    return tokens * (norms + inputs + width * number + mlp) + keys + weights


def _tower_bytes(stack: Stack) -> float:
    """One layer of a trained tower on one patch, in float32."""
    return 4 * (12 * stack.width + 3 * stack.mlp)


def _rollout(recipe: Recipe, sizes: Sizes, lengths: Lengths, groups: int) -> int:
    """Keys and values of prompts and answers, and the distributions of one token of all answers."""
    settings, stack = recipe.rollout, sizes.language
    together = min(settings.prompts_at_once, settings.prompts or groups)
    places = lengths.prompt + settings.group_size * settings.max_tokens
    number = 4 if recipe.model.dtype == "float32" or sizes.trained_matrices else 2
    cache = together * places * 2 * stack.kv_width * number * stack.layers
    return int(cache * 1.25 + together * settings.group_size * sizes.vocabulary * 28)


def _seconds(recipe: Recipe, sizes: Sizes, lengths: Lengths, groups: int, machine: Machine) -> dict[str, float]:
    stack = sizes.language
    tokens = groups * group_tokens(lengths)
    scored = groups * lengths.answers * lengths.answer
    pairs = lengths.prompt**2 + lengths.answers * lengths.answer * (lengths.prompt + lengths.answer)
    attention = 4 * groups * pairs * stack.width * stack.layers
    forward = 2 * stack.weights * tokens + attention + 2 * scored * stack.width * sizes.vocabulary
    backward = forward * (2 if sizes.trained_matrices else 1)
    again = forward if recipe.model.gradient_checkpointing else 0
    seen = groups * lengths.image * sizes.patches_per_token
    again_seen = recipe.model.gradient_checkpointing + (_portions(recipe, lengths, groups) > 1)
    tower = 2 * sizes.tower.weights * seen * (3 + again_seen if sizes.trained_vision else 1)
    rate = machine.rate * REACHED[machine.kind][recipe.model.dtype]
    found = {"forward and backward": (forward + backward + again) / rate, "images": tower / rate}
    if recipe.reference.kind in ("adapter_off", "copy"):
        found["reference"] = forward / rate / (recipe.rollout.passes if recipe.rewards else 1)
    if recipe.rewards and scored_anew(recipe):
        found["scoring anew"] = forward / rate / recipe.rollout.passes
    if recipe.rewards:
        found["sampling"] = _sampling(recipe, sizes, lengths, groups, machine) / recipe.rollout.passes
    moved = 16 * sizes.trained + 4 * sizes.trained * (machine.gpus > 1)
    return found | {"optimiser": 2 * moved / machine.bandwidth}


def _sampling(recipe: Recipe, sizes: Sizes, lengths: Lengths, groups: int, machine: Machine) -> float:
    """Prefill, then one token of all answers after another: bound by operations, by weights read, or by starting."""
    stack, rate = sizes.language, machine.rate * REACHED[machine.kind][recipe.model.dtype]
    together = min(recipe.rollout.prompts_at_once, groups)
    rounds = -(-groups // together)
    one_token = 2 * (stack.weights + stack.width * sizes.vocabulary)
    matrices = (2 if recipe.model.dtype == "bfloat16" else 4) * stack.weights
    for_all = together * recipe.rollout.group_size * one_token / rate
    step = max(for_all, matrices / machine.bandwidth) + stack.layers * SECONDS_PER_LAYER[machine.kind]
    longest = min(recipe.rollout.max_tokens, LONGEST_ANSWER * lengths.answer)
    return rounds * (2 * stack.weights * lengths.prompt * together / rate + longest * step)
