"""What every run looks at before its first update, and the doctor with it: cheap checks on a few of the run's own rows.

Each is one line: it holds, or what is wrong and what to do. A run stops at the first that does not hold.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from PIL import Image as Pillow
from torch import Tensor

from sightline.batch import Batch, ImageInput, PromptTokens, make_batch
from sightline.build.batches import batch_maker
from sightline.build.loading import Row
from sightline.build.rl import learns_from_rewards, sampler, temperature_of
from sightline.config import Recipe
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.sampler import SamplingParams, sample
from sightline.records import Image
from sightline.reports.doctor_page import Line
from sightline.train.engine import TrainingStopped
from sightline.train.verify import check_first_batch, picture_effect, reference_apart, sampler_apart

NUM_ROWS = 4
"""Rows that are looked at, those with pictures first."""
DRAWN_TOKENS = 48
"""Longest answer that is sampled for a check."""
UNREAD = 1e-3
"""Mean change of a token's log-prob, in nats, below which a picture was not read: rounding is far below it, and any
picture that is read far above."""
GREY = (127, 127, 127)
TOO_WRONG = "image tokens are wrong"
REFERENCE_CURES = {
    "adapter_off": "the adapters do not start at zero: start from a model without adapters, or use copy",
    "copy": "the copy was not made of the policy as it is; please report the model",
    "cached": "what is kept is of other weights or damaged: remove the folder named by reference.cache",
}


def about_gpus() -> str | None:
    """What a run on a GPU says first, until figures of one stand in bench/RESULTS.md."""
    if not torch.cuda.is_available():
        return None
    return (
        f"this is {torch.cuda.get_device_name()}: this version has only ever run on CPU, so trust its checks of the "
        "first batch more than its estimates, and please report what differs"
    )


def about_features(recipe: Recipe, policy: Policy, rows: Sequence[Row]) -> str | None:
    """What is kept of pictures for the run; None where the tower learns or there is no picture."""
    readers = {id(inputs): inputs for _, inputs in rows}.values()
    pictures = {key: known.num_tokens for inputs in readers for key, known in inputs.known.items()}
    first = next((image for group, inputs in rows for image in inputs.prompt(group.prompt).images), None)
    if not policy.vision.frozen or first is None:
        return None
    with torch.no_grad(), policy.precision():
        each = policy.vision.features([first])[first.key].nbytes / first.num_tokens
    needed, bound = each * sum(pictures.values()) / 2**20, recipe.model.kept_features_mib
    if needed <= bound:
        held = f"features of all {len(pictures):,} pictures are kept in memory ({needed:,.0f} MiB)"
    else:
        held = (
            f"features of about {int(len(pictures) * bound / needed):,} of {len(pictures):,} pictures are kept in "
            f"memory ({bound:,} of {needed:,.0f} MiB), and the least recently used are made again; "
            "model.kept_features_mib says how many"
        )
    folder = recipe.model.features_folder
    return f"tower and projector are frozen: {held}" + (f"; all of them in {folder}" if folder is not None else "")


def first_checks(
    recipe: Recipe, policy: Policy, rows: Sequence[Row], reference: Callable[[Batch], Tensor] | None
) -> Iterator[Line]:
    """The lines, cheapest first; those that build on a line that failed are left out."""
    some = sorted(rows[: 16 * NUM_ROWS], key=lambda row: not row[0].prompt.images)[:NUM_ROWS]
    tokens = image_tokens(policy, [inputs.prompt(group.prompt) for group, inputs in some])
    yield tokens
    if tokens.state == "fail":
        left_out = ["picture is read", "reference", "prompt once"] + ["sampler"] * learns_from_rewards(recipe)
        for name in left_out:
            yield Line(name=name, state="skip", said=f"not looked at, since {TOO_WRONG}")
        return
    batch = some_answers(recipe, policy, some)
    yield picture_is_read(policy, batch, some, token_budget=recipe.train.token_budget)
    yield equals_reference(recipe, policy, batch, reference)
    yield prompt_once(policy, some_answers(recipe, policy, rows[:1]))
    if learns_from_rewards(recipe):
        yield sampler_line(recipe, policy, some[:2])


def stop_at_failure(line: Line) -> str:
    """The line as a run says it; TrainingStopped where it does not hold."""
    cure = f"; {line.cure}" if line.cure else ""
    if line.state == "fail":
        raise TrainingStopped(f"{line.name}: {line.said}{cure} (train.check_first_batch: false goes on regardless)")
    return f"first batch, {line.name}: {line.said}{cure}"


def some_answers(recipe: Recipe, policy: Policy, rows: Sequence[Row]) -> Batch:
    """The rows with their answers; with two sampled ones each where the data has none."""
    if not learns_from_rewards(recipe):
        return batch_maker(recipe)(rows)
    short = min(DRAWN_TOKENS, recipe.rollout.max_tokens)
    brief = recipe.model_copy(update={"rollout": recipe.rollout.model_copy(update={"max_tokens": short})})
    prompts = [inputs.prompt(group.prompt) for group, inputs in rows]
    drawn = sampler(brief, policy, rows[0][1])(prompts, num=2, seed=recipe.seed)
    return make_batch(prompts, [[answer.token_ids or () for answer in answers] for answers in drawn])


def image_tokens(policy: Policy, prompts: Sequence[PromptTokens]) -> Line:
    """Every picture makes as many features as it takes tokens, and the prompt has that many placeholders."""
    name, placeholder = "image tokens", policy.family.image_token(policy.model.config)
    cure = "load processor and model from one checkpoint, and check that no text spells the image token"
    pictures = 0
    for prompt in prompts:
        wanted, there = sum(image.num_tokens for image in prompt.images), prompt.ids.count(placeholder)
        if there != wanted:
            problem = f"prompt {prompt.id!r} has {there} placeholders, and its pictures take {wanted}"
            return Line(name=name, state="fail", said=problem, cure=cure)
        try:
            with torch.no_grad(), policy.precision():
                policy.vision.features(prompt.images)
        except ValueError as error:
            return Line(name=name, state="fail", said=f"prompt {prompt.id!r}: {error}", cure=cure)
        pictures += len(prompt.images)
    if not pictures:
        return Line(name=name, state="skip", said="no prompt has a picture")
    counts = sorted({image.num_tokens for prompt in prompts for image in prompt.images})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    said = f"{pictures} picture{'s' * (pictures != 1)}, each with as many features as tokens ({each})"
    return Line(name=name, state="pass", said=said)


def picture_is_read(policy: Policy, batch: Batch, rows: Sequence[Row], *, token_budget: int) -> Line:
    """The answers' log-probs change when grey pictures stand in for the real ones."""
    name = "picture is read"
    if not any(prompt.images for prompt in batch.prompts):
        return Line(name=name, state="skip", said="no prompt has a picture")
    blank = replace(batch, prompts=tuple(with_grey(p, row) for p, row in zip(batch.prompts, rows, strict=True)))
    found = picture_effect(policy, batch, blank, token_budget=token_budget)
    changed = sum(change for change, _ in found) / len(found)
    gained = sum(gain for _, gain in found) / len(found)
    if not changed >= UNREAD:
        return Line(
            name=name,
            state="fail",
            said=f"a grey picture in place of the real one changes a token's log-prob by {changed:.1g} nats, "
            "which is nothing: the model does not read the picture",
            cure="check that the checkpoint has its projector's weights, that it is the model of this processor, and "
            "that the pictures are not all alike",
        )
    said = f"a grey picture changes a token's log-prob by {changed:.2g} nats on average"
    if gained < 0:
        cure = "look at the pictures on the page: do they belong to their questions?"
        return Line(
            name=name,
            state="look",
            said=f"{said}, but answers are {-gained:.2g} nats a token likelier without their picture",
            cure=cure,
        )
    return Line(name=name, state="pass", said=f"{said}; answers are {gained:.2g} nats a token likelier with theirs")


def equals_reference(recipe: Recipe, policy: Policy, batch: Batch, reference: Callable[[Batch], Tensor] | None) -> Line:
    """Before the first update the policy is its reference."""
    name, kind = "reference", recipe.reference.kind
    if reference is None:
        return Line(name=name, state="skip", said="this run compares with no reference")
    difference, allowed = reference_apart(policy, batch, reference, token_budget=recipe.train.token_budget)
    if not difference <= allowed:
        return Line(
            name=name,
            state="fail",
            said=f"before the first update the policy differs from its reference ({kind}) by {difference:.2g} "
            f"per token (allowed {allowed:.1g})",
            cure=REFERENCE_CURES.get(kind, "please report the recipe"),
        )
    return Line(
        name=name, state="pass", said=f"the policy starts as its reference ({kind}; {difference:.1g} per token)"
    )


def prompt_once(policy: Policy, batch: Batch) -> Line:
    """The packed forward equals the plain one."""
    try:
        return Line(name="prompt once", state="pass", said=check_first_batch(policy, batch))
    except TrainingStopped as error:
        return Line(name="prompt once", state="fail", said=str(error))


def sampler_line(recipe: Recipe, policy: Policy, rows: Sequence[Row]) -> Line:
    """The sampler's log-probs of its own answers are the trainer's."""
    prompts = [inputs.prompt(group.prompt) for group, inputs in rows]
    inputs = rows[0][1]
    length = min(DRAWN_TOKENS, recipe.rollout.max_tokens)
    params = SamplingParams(temperature=temperature_of(recipe), max_tokens=length, seed=recipe.seed)

    def draw(policy: Policy) -> tuple[Batch, torch.Tensor]:
        drawn = sample(policy, prompts, num=2, params=params, ends=inputs.ends)
        batch = make_batch(prompts, [[answer.token_ids for answer in answers] for answers in drawn])
        said = torch.zeros(batch.tokens.shape)
        for n, answer in enumerate(answer for answers in drawn for answer in answers):
            said[n, : len(answer.logprobs)] = torch.as_tensor(answer.logprobs)
        return batch, said

    difference, allowed = sampler_apart(policy, draw)
    found = f"difference {difference:.1g} per token, allowed {allowed:.1g}"
    if not difference <= allowed:
        return Line(
            name="sampler",
            state="fail",
            said=f"the sampler's log-probs are not the trainer's ({found}): the first update would be off-policy",
            cure="please report the model; set model.dtype: float32 to see whether it is rounding",
        )
    return Line(name="sampler", state="pass", said=f"the sampler's log-probs are the trainer's ({found})")


def with_grey(prompt: PromptTokens, row: Row) -> PromptTokens:
    """The prompt with grey pictures of the same sizes."""
    group, inputs = row
    alone = len(group.prompt.images) == 1
    return replace(prompt, images=tuple(_grey(inputs, image, alone=alone) for image in group.prompt.images))


def _grey(inputs: Inputs, image: Image, *, alone: bool) -> ImageInput:
    held = io.BytesIO()
    Pillow.new("RGB", inputs.store.size(image), GREY).save(held, "PNG")
    return inputs.image(Image(data=held.getvalue()), alone=alone)
