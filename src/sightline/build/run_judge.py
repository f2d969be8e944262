"""A run's rewards: contexts from prompts and pictures, the pool that judges, the curriculum."""

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sightline.build.scorers import Scorer, open_scorers
from sightline.config import Recipe
from sightline.journal import Journal
from sightline.models.inputs import Inputs
from sightline.records import Completion, Group, Prompt
from sightline.registry import did_you_mean
from sightline.rewards.boxes import SPACES, Space
from sightline.rewards.compose import Part
from sightline.rewards.contract import Judged, RewardContext
from sightline.rewards.curriculum import Curriculum
from sightline.rewards.detection import PHASES, phase_at, vision_r1
from sightline.rewards.frames import better_frame
from sightline.rewards.judging import FACTORY, compose
from sightline.rewards.pool import Call, RewardPool
from sightline.train.distributed import rank_and_size

MAX_KEPT_FAILURES = 100


@contextmanager
def run_judge(recipe: Recipe, journal: Journal, rows: Sequence[tuple[Group, Inputs]]) -> Iterator["RunJudge | None"]:
    """What judges the answers of a run, for as long as it needs that; None for a run that learns from data alone."""
    if not recipe.rewards:
        yield None
        return
    _check_tasks(recipe, [group.prompt for group, _ in rows])
    readers = {group.prompt.id: inputs for group, inputs in rows}
    with open_scorers(recipe.rewards, readers) as scorers:
        judge = RunJudge(recipe, readers, journal, scorers)
        try:
            yield judge
        finally:
            judge.close()


def check_rewards(recipe: Recipe) -> None:
    """Refuse names and options of rewards with a sentence before anything is loaded, those of the user's own too.

    The user's module is read in a process of its own where it will be judging in one.
    """
    for listed in (recipe.rewards, recipe.monitors.held_out):
        entries = [entry.model_dump() for entry in listed]
        own = [entry for entry in entries if ":" in entry["name"]]
        if own and recipe.rollout.reward_workers > 0:
            RewardPool(FACTORY, {"entries": own}).close()
        if entries:
            compose(entries).curriculum()


class RunJudge:
    """The recipe's rewards over prompts and answers. State: where its curriculum stands."""

    def __init__(
        self, recipe: Recipe, readers: Mapping[str, Inputs], journal: Journal, scorers: Mapping[str, Scorer]
    ) -> None:
        """`readers` by prompt id know the pictures' sizes; failures of rewards go into the journal; `scorers` are the
        models behind rewards."""
        entries = [entry.model_dump() for entry in recipe.rewards]
        self._readers = readers
        self._checked = False
        self._seen: list[Call] = []
        self._max_tokens = recipe.rollout.max_tokens
        composed = compose(entries)
        self._curriculum: Curriculum = composed.curriculum()
        self._phased = {part.name: _phase_options(part) for part in composed.parts if part.reward is vision_r1}
        self._spaces: dict[str, Space | None] = {part.name: _space_of(part) for part in composed.parts}
        max_pixels = recipe.data.max_image_pixels
        self._scorers = scorers
        settings = recipe.rollout
        self._pool = RewardPool(
            FACTORY,
            {"entries": entries, "max_image_pixels": max_pixels},
            num_workers=settings.reward_workers,
            timeout=settings.reward_timeout,
            on_error=settings.on_reward_error,
            report=lambda call, problem: _keep_failure(journal, call, problem),
        )

    def __call__(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[tuple[Completion, ...]],
        *,
        progress: float,
    ) -> list[tuple[Judged, ...]]:
        """What the rewards say of every answer."""
        calls = self._calls(prompts, answers, progress, self._curriculum.values(progress))
        found = self._pool(calls)
        if not self._checked:
            self._seen = calls
        groups: list[tuple[Judged, ...]] = []
        for group in answers:
            start = sum(map(len, groups))
            groups.append(tuple(found[start : start + len(group)]))
        return groups

    def observe(self, judged: Sequence[tuple[Judged, ...]]) -> None:
        """The curriculum sees what was reached; on the first rollout, rewards that cannot be right are refused."""
        if not self._checked:
            _check_rewards_work([one for group in judged for one in group])
            self._check_frames(self._seen)
            self._checked, self._seen = True, []
        for group in judged:
            self._curriculum.observe(_measures(group))
        if unknown := self._curriculum.unmeasured():
            measured = sorted({name for group in judged for name in _measures(group)})
            problem = f"rewards: a schedule follows the skill {unknown[0]!r}, which no reward measures"
            raise ValueError(f"{problem}{did_you_mean(unknown[0], measured)}")

    def facts(self, progress: float) -> dict[str, float]:
        """The rules in force, as numbers for the log: scheduled options, and the phases that rewards change
        themselves."""
        found = self._curriculum.numbers(progress)
        for label, options in self._phased.items():
            found.setdefault(f"{label}/phase", float(list(PHASES).index(phase_at(progress, **options))))
        return {f"curriculum/{name}": value for name, value in found.items()}

    def frames(self) -> dict[str, Space]:
        """The frame in which each reward that reads boxes does so."""
        return {name: space for name, space in self._spaces.items() if space is not None}

    def state(self) -> dict[str, Any]:
        """Where the curriculum stands."""
        return self._curriculum.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._curriculum.restore(state)

    def close(self) -> None:
        """End the processes that judge."""
        self._pool.close()

    def _check_frames(self, calls: Sequence[Call]) -> None:
        """Boxes read in the wrong frame look like a bad model: refuse a frame that another one clearly beats."""
        for name, space in self._spaces.items():
            problem = None if space is None else better_frame([(c.completion, c.context) for c in calls], space)
            if problem is not None:
                raise ValueError(f"rewards: {name}: {problem}")

    def _calls(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[tuple[Completion, ...]],
        progress: float,
        options: Mapping[str, Mapping[str, Any]],
    ) -> list[Call]:
        said = {label: scorer(prompts, answers) for label, scorer in self._scorers.items()}
        calls = []
        for number, (prompt, group) in enumerate(zip(prompts, answers, strict=True)):
            inputs = self._readers[prompt.id]
            context = context_of(prompt, inputs, progress=progress, max_tokens=self._max_tokens)
            picture = picture_of(prompt, inputs)
            for i, completion in enumerate(group):
                given = {label: scores[number][i] for label, scores in said.items()}
                about = replace(context, given=given)
                calls.append(Call(completion=completion, context=about, options=options, picture=picture))
        return calls


def context_of(prompt: Prompt, inputs: Inputs, *, progress: float, max_tokens: int | None = None) -> RewardContext:
    """What rewards may look at besides an answer to this prompt."""
    sizes = inputs.sizes(prompt.images[0]) if prompt.images else (None, None)
    asked = " ".join(part for part in prompt.messages[-1].content if isinstance(part, str))
    return RewardContext(
        truth=prompt.truth,
        prompt=asked,
        task=prompt.task,
        image_size=sizes[0],
        seen_size=sizes[1],
        progress=progress,
        max_tokens=max_tokens,
    )


def _check_rewards_work(found: Sequence[Judged]) -> None:
    """A reward that fails on every answer of the first rollout has a bug: say which, before anything is learned."""
    problems = Counter(judged.problem for judged in found if judged.problem is not None)
    if found and sum(problems.values()) == len(found):
        problem, num = problems.most_common(1)[0]
        raise ValueError(
            f"rewards: all {len(found)} answers of the first rollout could not be judged; on {num} of them the reward "
            f"{problem}; mend it (reward-failures/ of the run folder has each answer with its truth)"
        )


def _check_tasks(recipe: Recipe, prompts: Sequence[Prompt]) -> None:
    """A reward is for tasks that occur."""
    known = sorted({prompt.task for prompt in prompts if prompt.task is not None})
    for entry in recipe.rewards:
        for task in entry.tasks:
            if task not in known:
                listed = f"; the tasks are {', '.join(known)}" if known else "; no prompt names its task"
                hint = did_you_mean(task, known)
                raise ValueError(f"rewards: {entry.name}: tasks names {task!r}, which no prompt has{hint or listed}")


def _phase_options(part: Part) -> dict[str, Any]:
    """What of a vision_r1's options says its phase; nothing that is scheduled, which is logged as such."""
    return {
        name: part.options[name]
        for name in ("step", "phase", "mode")
        if isinstance(part.options.get(name), float | str)
    }


def _space_of(part: Part) -> Space | None:
    """The frame in which a reward reads boxes, if it reads any and the frame stays."""
    parameter = inspect.signature(part.reward).parameters.get("space")
    given = None if parameter is None else part.options.get("space", parameter.default)
    return next((space for space in SPACES if space == given), None)


def _measures(group: Sequence[Judged]) -> dict[str, float]:
    """Means over a group of the value and of every part."""
    names = {name for one in group for name in one.parts}
    found = {name: [one.parts[name] for one in group if name in one.parts] for name in names}
    values = [one.value for one in group if one.value is not None]
    return {name: sum(given) / len(given) for name, given in found.items()} | (
        {"reward": sum(values) / len(values)} if values else {}
    )


def picture_of(prompt: Prompt, inputs: Inputs) -> bytes | str | None:
    """The prompt's first picture, encoded or by path, for rewards that look."""
    if not prompt.images:
        return None
    image = prompt.images[0]
    return image.data if image.data is not None else str(inputs.store.locate(image))


def _keep_failure(journal: Journal, call: Call, problem: str) -> None:
    folder = journal.folder / "reward-failures"
    folder.mkdir(exist_ok=True)
    rank, _ = rank_and_size()
    number = len(list(folder.iterdir()))
    if number < MAX_KEPT_FAILURES:
        group = Group(
            prompt=Prompt(id=str(number), messages=(), truth=call.context.truth), completions=(call.completion,)
        )
        name = f"{number:04d}" + (f"-process-{rank}" if rank else "")
        (folder / f"{name}.json").write_text(group.to_json() + "\n" + problem + "\n")
