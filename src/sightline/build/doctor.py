"""`sightline doctor`: a run looked at before it is made, on its own model, data and rewards; trains nothing.

Owns the order of the checks and what is left out after one that failed. The cheap half of them, which every run makes
by itself, is in first_checks.py; rows, boxes and the trial of one step are in the files doctor_*.py beside this one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from sightline.build.batches import batch_maker, make_reference
from sightline.build.doctor_boxes import Answered, box_line, frame_of, shown
from sightline.build.doctor_rows import Seen, look_at_rows, row_lines
from sightline.build.doctor_trial import Trial, trial_folder, try_step
from sightline.build.doctor_turns import tags_line, turns_line
from sightline.build.estimates import estimate
from sightline.build.first_checks import first_checks, sampler_line
from sightline.build.loading import Row, load_for_training, settled
from sightline.build.own_answers import make_own_answers
from sightline.build.plan import CPU_WORKING, lengths_of, num_steps_of, resident, size_text, this_machine, time_text
from sightline.build.rl import learns_from_rewards
from sightline.build.runs import make_policy
from sightline.config import Recipe, resolved_yaml
from sightline.models.forward import Policy
from sightline.models.load import Loaded
from sightline.models.outline import sizes_of
from sightline.models.reference import KeptLogprobs, Reference
from sightline.progress import phase
from sightline.records import Completion
from sightline.reports.doctor_page import Line, Shown, write_doctor_page
from sightline.rewards.boxes import Space
from sightline.rewards.pool import RewardFailed
from sightline.train.engine import TrainingStopped
from sightline.train.feeds import imitated

Tell = Callable[[Line], None]
MOST_GROUPS = 64
"""Groups in the trial of a step."""
SLOW = 40.0
"""Seconds that the trial of a step may take, as far as that can be foreseen."""
GROUPS_OF_CHECKS = 8
"""Groups whose forward and backward passes take as long as the first checks together."""
NUM_SHOWN = 6
"""Pictures on the page."""


@dataclass(slots=True, kw_only=True)
class _Case:
    """What is looked at, and what was found so far."""

    recipe: Recipe
    loaded: Loaded
    policy: Policy
    seen: Seen
    tell: Tell
    before: int
    lines: list[Line] = field(default_factory=list)
    pictures: list[Shown] = field(default_factory=list)

    def say(self, line: Line) -> Line:
        """Keep a line and tell it."""
        self.lines.append(line)
        self.tell(line)
        return line


def doctor(*, recipe: Recipe, page: Path, tell: Tell = lambda line: None) -> list[Line]:
    """Every line, told as it is found; the page is written at the end."""
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    recipe = settled(recipe)
    torch.manual_seed(recipe.seed)
    before = resident()
    loaded = load_for_training(recipe)
    seen = look_at_rows(recipe, loaded)
    case = _Case(recipe=recipe, loaded=loaded, policy=make_policy(recipe, loaded), seen=seen, tell=tell, before=before)
    for line in row_lines(recipe, loaded, seen):
        case.say(line)
    if seen.rows:
        case.say(turns_line(seen.rows))
        with phase("looking at the model and a trial of one step"):
            _look_at_model(case)
    write_doctor_page(page, name=recipe.name, lines=case.lines, shown=case.pictures, recipe=resolved_yaml(recipe))
    return case.lines


def _look_at_model(case: _Case) -> None:
    recipe, policy, rows = case.recipe, case.policy, case.seen.rows
    with trial_folder(recipe, 1) as (small, _):
        reference = _reference(recipe, small, case, rows[:MOST_GROUPS])
        began = time.monotonic()
        sound = True
        for line in first_checks(recipe, policy, rows, reference):
            sound &= case.say(line).state != "fail" or line.name != "image tokens"
        seconds = time.monotonic() - began
    if not sound:
        _show(case, [_of_data(row) for row in rows[:NUM_SHOWN]], {})
        for name in (*(["sampler"] * (not learns_from_rewards(recipe))), "boxes", "memory", "time"):
            case.say(Line(name=name, state="skip", said="not looked at, since image tokens are wrong"))
        return
    if not learns_from_rewards(recipe):  # else it was among the first checks
        case.say(sampler_line(recipe, policy, rows[:2]))
    tags = tags_line(recipe, policy, rows)
    if tags is not None:
        case.say(tags)
    trial = _trial(case, seconds)
    answered = _answered(case, trial)
    frames: Mapping[str, Space] = {} if trial is None else trial.frames
    if trial is not None and recipe.rewards:
        for line in rollout_lines(recipe, trial):
            case.say(line)
    case.say(box_line(answered, frames))
    _show(case, answered, frames)
    for line in _needs(case, trial):
        case.say(line)


def rollout_lines(recipe: Recipe, trial: Trial) -> Iterator[Line]:
    """What the first rollout says: answers that end, rewards that work and differ."""
    pairs = [(c, j) for group in trial.answers for c, j in zip(group.completions, group.judged, strict=True)]
    cut = sum(completion.finish_reason == "length" for completion, _ in pairs) / len(pairs)
    said = f"{cut:.0%} of {len(pairs)} sampled answers were cut at rollout.max_tokens ({recipe.rollout.max_tokens})"
    cure = "raise rollout.max_tokens" if cut > 0.1 else ""
    yield Line(name="answers end", state="fail" if cut > 0.5 else "look" if cure else "pass", said=said, cure=cure)
    problems = [judged.problem for _, judged in pairs if judged.problem is not None]
    if problems:
        said = f"{len(problems)} of {len(pairs)} answers could not be judged; the first reward {problems[0]}"
        state = "fail" if len(problems) > len(pairs) / 2 else "look"
        yield Line(
            name="rewards", state=state, said=said, cure="mend the reward; sightline reward score tries it on a file"
        )
        return
    values = [judged.value for _, judged in pairs if judged.value is not None]
    told = sum(group.has_signal for group in trial.answers)
    said = f"mean {sum(values) / max(1, len(values)):.3g}; they differ within {told} of {len(trial.answers)} groups"
    if told == 0:
        cure = (
            "nothing can be learned from equal rewards: look at answers and truth on the page, raise rollout.group_size"
        )
        yield Line(name="rewards", state="fail", said=said, cure=cure)
        return
    yield Line(name="rewards", state="pass", said=said)


def _reference(recipe: Recipe, small: Recipe, case: _Case, rows: Sequence[Row]) -> Reference | None:
    """The run's reference; kept log-probs are read where the run has them already, else made in the trial's folder."""
    policy, loaded = case.policy, case.loaded
    kept = recipe.reference.cache
    if kept is not None and Path(kept).is_dir():
        reference = KeptLogprobs(Path(kept), policy, loaded)
        if reference.holds(batch_maker(recipe)(rows)):
            return reference
    return make_reference(small, policy, loaded, [rows], lambda line: None)


def _trial(case: _Case, seconds: float) -> Trial | None:
    """One step on as many groups as a micro-batch holds, and fewer where that would take long."""
    recipe, rows = case.recipe, case.seen.rows
    mean = _mean_tokens(case)
    num = max(1, min(recipe.train.groups_per_step, int(recipe.train.token_budget // mean), MOST_GROUPS, len(rows)))
    num = max(1, min(num, int(GROUPS_OF_CHECKS * SLOW / max(1e-3, seconds))))
    with trial_folder(recipe, num) as (small, journal):
        reference = make_reference(small, case.policy, case.loaded, [rows[:num]], lambda line: None)
        case.policy.own = make_own_answers(small, case.policy, rows[:num], journal, lambda line: None)
        try:
            return try_step(small, journal, case.loaded, case.policy, rows[:num], reference)
        except torch.OutOfMemoryError:
            cure = "halve train.token_budget, then model.max_pixels; model.gradient_checkpointing: true saves most"
            case.say(Line(name="trial step", state="fail", said=f"{num} groups ran out of memory", cure=cure))
        except (ValueError, RewardFailed, TrainingStopped) as error:
            case.say(Line(name="trial step", state="fail", said=" ".join(str(error).split())))
    return None


def _mean_tokens(case: _Case) -> float:
    """Packed tokens of a group, as far as they are known before answers are sampled."""
    prompts = [one.prompt_text + one.image for one in case.seen.lengths]
    settings = case.recipe.rollout
    sampled = settings.group_size * settings.max_tokens / 2
    answers = [sampled if learns_from_rewards(case.recipe) else sum(one.answers) for one in case.seen.lengths]
    return max(1.0, (sum(prompts) + sum(answers)) / len(prompts))


def _answered(case: _Case, trial: Trial | None) -> list[Answered]:
    """Rows with an answer each: sampled in the trial, else preferred in the data, else none."""
    rows = case.seen.rows
    if trial is not None and trial.answers:
        drawn = [(rows[group.row], completion) for group in trial.answers for completion in group.completions[:1]]
        return [Answered(row=row, completion=answer, whose="Sampled") for row, answer in drawn]
    return [_of_data(row) for row in rows[:MOST_GROUPS]]


def _of_data(row: Row) -> Answered:
    group = row[0]
    preferred = imitated(group)[:1] if group.completions else []
    completion = group.completions[preferred[0]] if preferred else Completion(text="")
    return Answered(row=row, completion=completion, whose="In the data")


def _show(case: _Case, answered: Sequence[Answered], frames: Mapping[str, Space]) -> None:
    """Rows with pictures for the page, those with boxes first."""
    pictured = [one for one in answered if one.row[0].prompt.images]
    first = sorted(pictured, key=lambda one: not one.row[0].prompt.truth.get("objects"))[:NUM_SHOWN]
    space = frame_of(answered, frames)
    for one in first:
        tokens = one.row[1].prompt(one.row[0].prompt)
        counts = f"{len(tokens.ids)} ({sum(image.num_tokens for image in tokens.images)} of images)"
        case.pictures.append(shown(one, space, {"tokens of the prompt": counts}))


def _needs(case: _Case, trial: Trial | None) -> Iterator[Line]:
    """Memory and time of the run: the trial's, scaled to a whole step, beside the closed form."""
    recipe, sizes = case.recipe, sizes_of(case.loaded)
    lengths = lengths_of(recipe, case.loaded)
    if trial is not None and trial.answers:
        lengths = replace(lengths, answer=float(trial.batch.lengths.float().mean()))
    machine = this_machine(recipe, sizes)
    machine = replace(machine, own=case.before + CPU_WORKING) if machine.kind == "cpu" else machine
    found = estimate(recipe, sizes, lengths, machine)
    peak, seconds, how = found.peak, found.step, "reckoned"
    if trial is not None:
        in_trial = len(trial.batch.prompts)
        scale = recipe.train.groups_per_step / in_trial
        per_rollout = 1 if not recipe.rewards else recipe.rollout.passes
        seconds = scale * (trial.model_seconds + trial.feed_seconds / per_rollout) + found.seconds["optimiser"]
        how = f"from a trial of {in_trial} groups, {trial.tokens:,} tokens"
    if trial is not None and trial.peak is not None:
        own = machine.own if machine.kind == "cuda" else 0
        peak = max(found.peak, trial.peak + own + found.memory["optimiser"])
    said = f"about {size_text(peak)} at the peak"
    if machine.memory is not None and peak > machine.memory:
        cure = "halve train.token_budget, then model.max_pixels; model.gradient_checkpointing: true saves most"
        yield Line(
            name="memory", state="fail", said=f"{said}, and {machine.name} has {size_text(machine.memory)}", cure=cure
        )
    else:
        parts = ", ".join(f"{part} {size_text(size)}" for part, size in found.memory.items() if size)
        yield Line(name="memory", state="pass", said=f"{said} ({parts})")
    steps = num_steps_of(recipe)
    yield Line(
        name="time",
        state="pass",
        said=f"about {seconds:.2g} s a step, {steps:,} steps: {time_text(seconds * steps)} ({how})",
    )
