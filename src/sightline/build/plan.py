"""`sightline plan`: a recipe's memory and time from config, processor and a sample of its data, before anything loads.

Gathers what build/estimates.py reckons with: the model in outline, lengths of some rows, and the machine.
"""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sightline.build.batches import batch_maker
from sightline.build.estimates import GPUS, Estimate, Lengths, Machine, estimate
from sightline.build.loading import Row, inputs_of, settled, train_parts
from sightline.build.rl import learns_from_rewards
from sightline.build.rows import check_first_rows
from sightline.config import Recipe
from sightline.data.files import count_rows, read_groups
from sightline.data.stream import Stream
from sightline.models.arithmetic import AUTO, DTYPES
from sightline.models.load import Loaded
from sightline.models.outline import Sizes, load_outline, sizes_of
from sightline.progress import phase
from sightline.records import RecordError
from sightline.world.weights import resolve

SAMPLED_ROWS = 64
SPREAD_OF_SAMPLED = 0.3
"""Of the tokens of a group whose answers are yet to be sampled."""
CURES = {
    "weights": "model.dtype: bfloat16, and reference.kind: adapter_off or cached instead of copy",
    "gradients": "model.train: lora, which trains adapters alone",
    "optimiser": "model.train: lora, which trains adapters alone",
    "activations": "model.gradient_checkpointing: true, then a smaller train.token_budget or model.max_pixels",
    "together": "model.dtype: bfloat16, or a model that fits one GPU: sampling and reading need it whole",
    "rollout cache": "a smaller rollout.prompts_at_once or rollout.max_tokens",
}
"""What makes a part smaller."""
CPU_WORKING = 120 * 2**20
"""What libraries come to hold on CPU once they compute."""
MEASURED_OPERATIONS = 4 * 10**9
"""Of one product by which a CPU is measured."""
CUDA_OWN = 600 * 2**20
"""What CUDA takes on a GPU for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A recipe's needs on a machine."""

    machine: Machine
    """Where."""
    sizes: Sizes
    """The model's sizes."""
    lengths: Lengths
    """Of the groups of a step."""
    estimate: Estimate
    """Memory and time of one process."""
    num_steps: int
    """Updates of the run."""
    notes: tuple[str, ...]
    """How long the run is, what was assumed, and what does not fit, a sentence each."""

    @property
    def fits(self) -> bool:
        """Whether the machine's memory is enough, as far as that is known."""
        return self.machine.memory is None or self.estimate.peak <= self.machine.memory


def plan(
    recipe: Recipe,
    *,
    gpus: int | None = None,
    gpu: str | None = None,
    prompt_tokens: int | None = None,
    answer_tokens: int | None = None,
) -> Planned:
    """What the recipe needs on `gpus` GPUs of a kind, or on this machine; lengths that are given are not measured."""
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    if prompt_tokens is None or answer_tokens is None:  # with both given, the files need not be here
        check_first_rows(recipe)
    recipe = settled(recipe) if gpus is None and gpu is None else on_gpus(recipe)
    with phase(f"reading the outline of {recipe.model.path}"):
        outline = outline_of(recipe)
        sizes = sizes_of(outline)
    with phase("measuring rows"):
        lengths = lengths_of(recipe, outline, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)
    with phase("measuring this machine"):
        machine = this_machine(recipe, sizes) if gpus is None and gpu is None else gpu_machine(gpu, gpus or 1)
    found = estimate(recipe, sizes, lengths, machine)
    planned = Planned(
        machine=machine,
        sizes=sizes,
        lengths=lengths,
        estimate=found,
        num_steps=num_steps_of(recipe),
        notes=(),
    )
    return replace(planned, notes=tuple(_notes(recipe, planned, answer_tokens)))


def on_gpus(recipe: Recipe) -> Recipe:
    """The recipe with the arithmetic that `auto` means on the GPUs that are known here: all multiply in bfloat16."""
    dtype = "bfloat16" if recipe.model.dtype == AUTO else recipe.model.dtype
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": dtype})})


def expected_memory(recipe: Recipe) -> str:
    """One sentence about the memory of a run on this machine, before its model is loaded."""
    outline = outline_of(recipe)
    sizes = sizes_of(outline)
    try:
        lengths = lengths_of(recipe, outline)
    except ValueError:  # what is wrong with the rows is said where all are read, with file and line
        return "expected peak memory: not known, since the first rows of the data cannot be read"
    machine = this_machine(recipe, sizes, measured=False)
    found = estimate(recipe, sizes, lengths, machine)
    largest = sorted(found.memory, key=lambda part: -found.memory[part])[:3]
    named = ", ".join(f"{part} {size_text(found.memory[part])}" for part in largest)
    less = "" if machine.memory is None or found.peak <= machine.memory else f", of which {machine.name} has less"
    return f"expected peak memory: about {size_text(found.peak)}{less} ({named}); sightline plan says more"


def outline_of(recipe: Recipe) -> Loaded:
    """The recipe's model without its weights, with what it trains marked."""
    model = recipe.model
    outline = load_outline(
        resolve(model.path),
        revision=model.revision,
        dtype=model.dtype,
        trust_remote_code=model.trust_remote_code,
    )
    return train_parts(recipe, outline)


def lengths_of(
    recipe: Recipe, outline: Loaded, *, prompt_tokens: int | None = None, answer_tokens: int | None = None
) -> Lengths:
    """Mean tokens of a group, from the first rows of each file; answers that are yet to be sampled are half as long as
    they may become, unless it is said."""
    sampled = learns_from_rewards(recipe)
    answer = float(answer_tokens or recipe.rollout.max_tokens / 2)
    if prompt_tokens is not None and answer_tokens is not None:
        answers = recipe.rollout.group_size if sampled else 1 if recipe.objective.kind == "sft" else 2
        return Lengths(
            prompt=prompt_tokens, image=0.0, answer=answer, answers=answers, spread=0.0, num_images=0, measured=0
        )
    rows = list(_some_rows(recipe, outline))
    if not rows:
        raise ValueError(f"data.files: no usable row in {', '.join(recipe.data.files)}; sightline data check says why")
    prompts = [inputs.prompt(group.prompt) for group, inputs in rows]
    image = [sum(part.num_tokens for part in prompt.images) for prompt in prompts]
    answers, spread = float(recipe.rollout.group_size), SPREAD_OF_SAMPLED
    if not sampled:
        batch = batch_maker(recipe)(rows)
        packed = torch.as_tensor([float(len(prompt.ids)) for prompt in prompts])
        packed.index_add_(0, batch.group, batch.lengths - 1.0)
        spread = float(packed.std(correction=0) / packed.mean())
        answers = batch.num_answers / len(prompts)
        answer = answer_tokens or float(batch.lengths.float().mean())
    num_rows = sum(count_rows(file) for file in recipe.data.files)
    used = min(num_rows, (recipe.train.steps or num_rows) * recipe.train.groups_per_step)
    return Lengths(
        prompt=prompt_tokens or sum(len(prompt.ids) for prompt in prompts) / len(prompts),
        image=sum(image) / len(prompts),
        answer=answer,
        answers=answers,
        spread=spread,
        num_images=round(used * sum(len(prompt.images) for prompt in prompts) / len(prompts)),
        measured=len(rows),
    )


def this_machine(recipe: Recipe, sizes: Sizes, *, measured: bool = True) -> Machine:
    """The machine that this runs on; its rate is measured where it is asked for."""
    on_gpu = torch.cuda.is_available()
    kind = "cuda" if on_gpu else "cpu"
    rate = _measured_rate(recipe, sizes, kind) if measured else 1.0
    if not on_gpu:
        name = f"this machine ({os.cpu_count()} CPU cores)"
        own = resident() + CPU_WORKING
        return Machine(name=name, kind=kind, rate=rate, bandwidth=8e9, memory=_cpu_memory(), own=own)
    facts = torch.cuda.get_device_properties(0)
    return Machine(name=facts.name, kind=kind, rate=rate, bandwidth=1.5e12, memory=facts.total_memory, own=CUDA_OWN)


def gpu_machine(gpu: str | None, gpus: int) -> Machine:
    """GPUs of a known kind; without a name those of this machine, or else of 80 GiB."""
    if gpu is None and torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        close = [name for name in GPUS if name.split("-")[0] in facts.name.lower()]
        gpu = close[0] if close else "a100"
    name = gpu or "a100"
    memory, rate, bandwidth = GPUS[name]
    return Machine(
        name=f"{gpus} x {name}",
        kind="cuda",
        rate=rate,
        bandwidth=bandwidth,
        memory=memory * 2**30,
        own=CUDA_OWN,
        gpus=gpus,
    )


def num_steps_of(recipe: Recipe) -> int:
    """Updates of the whole run, from the number of rows."""
    if recipe.train.steps is not None:
        return recipe.train.steps
    stream = Stream(
        sum(count_rows(file) for file in recipe.data.files),
        seed=recipe.seed,
        batch_size=recipe.train.groups_per_step,
        epochs=recipe.train.epochs,
    )
    return (recipe.rollout.passes if recipe.rewards else 1) * (stream.num_batches or 0)


def size_text(num_bytes: float) -> str:
    """Bytes for people."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def time_text(seconds: float) -> str:
    """A duration for people."""
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _some_rows(recipe: Recipe, outline: Loaded) -> Iterator[Row]:
    """The first good rows of every file."""
    for file in map(Path, recipe.data.files):
        inputs = inputs_of(recipe, outline, file)
        rows = read_groups(file, on_bad="skip", on_skip=lambda bad: None)
        for _, group in itertools.islice(rows, -(-SAMPLED_ROWS // len(recipe.data.files))):
            try:
                inputs.prompt(group.prompt)
            except RecordError:
                continue
            yield group, inputs


def _notes(recipe: Recipe, planned: Planned, answer_tokens: int | None) -> Iterator[str]:
    lengths, machine = planned.lengths, planned.machine
    yield f"{planned.num_steps:,} steps: about {time_text(planned.estimate.step * planned.num_steps)}"
    where = f"measured on {lengths.measured} rows" if lengths.measured else "as given"
    yield (
        f"a group: {lengths.prompt:.0f} tokens of prompt ({lengths.image:.0f} of images), {lengths.answers:.1f} "
        f"answers of {lengths.answer:.0f} tokens ({where})"
    )
    if recipe.reference.kind == "cached":
        read = planned.estimate.seconds["forward and backward"] / (3 if planned.sizes.trained_matrices else 2)
        rows = sum(map(count_rows, recipe.data.files)) if lengths.measured else 0
        once = read * rows / recipe.train.groups_per_step
        yield f"before the first step the reference reads the data once: about {time_text(once)}, then it is kept"
    if recipe.rewards and answer_tokens is None:
        yield "answers are taken to be half as long as rollout.max_tokens; --answer-tokens says better"
    if machine.gpus > 1:
        yield (
            "each GPU holds its part of weights, gradients and optimiser; to sample and to read, all weights together"
            if recipe.train.shard
            else "weights lie whole on every GPU; train.shard: true cuts them, with gradients and optimiser"
        )
    if machine.kind == "cuda":
        yield "speed on GPUs is reckoned from published rates and has not been measured with this version"
    if not planned.fits:
        assert machine.memory is not None
        parts = planned.estimate.memory
        large = [part for part in sorted(parts, key=lambda part: -parts[part]) if 7 * parts[part] > machine.memory]
        cures = "; ".join(dict.fromkeys(CURES[part] for part in large if part in CURES))
        problem = f"does not fit into {size_text(machine.memory)}: the largest parts are {', '.join(large)}"
        yield f"{problem}; try {cures or 'a smaller model'}"


def _measured_rate(recipe: Recipe, sizes: Sizes, kind: str, *, seconds: float = 0.3) -> float:
    """Operations a second of matrix products of the language model's own sizes."""
    dtype = DTYPES[recipe.model.dtype]
    rows = 2048 if kind == "cuda" else measured_rows(sizes)
    states = torch.randn(rows, sizes.language.width, device=kind).to(dtype)
    weight = torch.randn(sizes.language.width, sizes.language.mlp, device=kind).to(dtype)
    _product(states, weight)
    num, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        _product(states, weight)
        num += 1
    return 2 * states.numel() * weight.shape[1] * num / (time.monotonic() - began)


def measured_rows(sizes: Sizes) -> int:
    """Rows of the product that a CPU is measured by: few for a large model, which would take it minutes."""
    return min(2048, max(32, MEASURED_OPERATIONS // (2 * sizes.language.width * sizes.language.mlp)))


def _product(states: torch.Tensor, weight: torch.Tensor) -> None:
    torch.mm(states, weight)
    if states.is_cuda:
        torch.cuda.synchronize()


def _cpu_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resident() -> int:
    """What this process has in memory now: Python and its libraries."""
    found = status_sizes().get("VmRSS")
    return 450 * 2**20 if found is None else found


def status_sizes(names: Sequence[str] = ("VmRSS", "VmHWM")) -> dict[str, int]:
    """Sizes of this process by name, in bytes, where the system tells them (Linux)."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return {}
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return {name: int(lines[name].split()[0]) * 1024 for name in names if name in lines}
