"""What the command line asks for besides training: sampling, evaluation, data checks, the world's files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.build.best_of import BestOf, Rated, rated_answers
from sightline.build.loading import inputs_of, load_start, load_trained, make_inputs
from sightline.config.rl import RewardEntry
from sightline.data.files import write_groups
from sightline.data.images import embedded
from sightline.evaluation.run import Judged, judge_answers, judge_task
from sightline.evaluation.statistics import Interval, ratio
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded
from sightline.models.reading import reading_policy
from sightline.models.sampler import SamplingParams, sample
from sightline.progress import Say, phase, say
from sightline.records import Completion, Group, Message, Prompt
from sightline.world.annotators import annotate
from sightline.world.prompts import exact_group, picture_png, task_prompts
from sightline.world.scenes import make_scene, truth
from sightline.world.tasks import find_task, make_question


def sample_answers(
    *,
    target: str,
    images: Sequence[Path],
    prompt: str,
    temperature: float = 0.0,
    max_tokens: int = 256,
    seed: int = 0,
    num: int = 1,
    scorer: RewardEntry | None = None,
) -> list[tuple[str, Rated]]:
    """Answers with who gave them: of a run's base and of its tuned model, or of a model alone.

    With a scorer they are rated, different ones are kept once, and the best of each model comes first.
    """
    if num > 1 and temperature == 0:
        raise ValueError("--num above 1 with temperature 0 would print one answer several times; set --temperature 1")
    loaded, recipe = load_trained(target)
    parts = tuple(embedded(path) for path in images)
    asked = Prompt(id="0", messages=(Message(role="user", content=(*parts, prompt)),))
    params = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)

    def answers(model: Loaded, inputs: Inputs) -> list[Rated]:
        if scorer is None:
            return [Rated(text=text, value=None) for text in _answers(model, inputs, asked, params, num)]
        best_of = BestOf(num=num, scorer=scorer, temperature=temperature, seed=seed)
        return rated_answers(model, inputs, [asked], best_of, max_tokens=max_tokens)[0]

    if recipe is None:
        return [("model", rated) for rated in answers(loaded, make_inputs(loaded))]
    base = load_start(recipe)
    found = [("base", rated) for rated in answers(base, inputs_of(recipe, base))]
    return found + [("tuned", rated) for rated in answers(loaded, inputs_of(recipe, loaded))]


def _answers(loaded: Loaded, inputs: Inputs, asked: Prompt, params: SamplingParams, num: int) -> list[str]:
    policy = reading_policy(loaded)
    groups = sample(policy, [inputs.prompt(asked)], num=num, params=params, ends=inputs.ends)
    return [inputs.text(answer.token_ids) for answer in groups[0]]


def evaluate(
    *,
    target: str,
    tasks: Sequence[str],
    split: str = "test",
    scenes: int = 2000,
    batch_size: int = 128,
    best_of: BestOf | None = None,
) -> dict[str, dict[str, Interval]]:
    """Metrics with intervals of a run or model on the embedded world's tasks: of greedy answers, or the best of N."""
    loaded, recipe = load_trained(target)
    inputs = make_inputs(loaded) if recipe is None else inputs_of(recipe, loaded)
    policy = reading_policy(loaded)
    found: dict[str, dict[str, Interval]] = {}
    for task in tasks:
        asked, prompts = find_task(task), task_prompts(task, split, scenes)
        if best_of is None:
            judged = judge_task(policy, inputs, asked, prompts, batch_size=batch_size)
        else:
            rated = rated_answers(loaded, inputs, prompts, best_of, max_tokens=asked.max_tokens, batch_size=batch_size)
            judged = judge_answers(asked, prompts, [answers[0].text for answers in rated])
        with phase(f"{task}, intervals"):
            found[task] = _intervals(judged)
    return found


def _intervals(judged: Judged) -> dict[str, Interval]:
    counted = {name: r for name, r in judged.ratios().items() if r.denominator.sum() > 0}
    found = {name: ratio(value, seed=0) for name, value in counted.items()}
    return found | ({"map": judged.mean_average_precision()} if judged.task == "detect" else {})


def world_draw(*, split: str, num: int, out: Path, seed: int = 0, first: int = 0) -> Path:
    """Pictures of scenes as PNG, and their truth as JSON lines."""
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(first, first + num):
        scene = make_scene(split, index, seed=seed)
        (out / f"{scene.id}.png").write_bytes(picture_png(scene))
        lines.append(json.dumps({"id": scene.id, "image": f"{scene.id}.png", **truth(scene)}))
    (out / "truth.jsonl").write_text("\n".join(lines) + "\n")
    return out


def world_groups(
    *, task: str, split: str, num: int, out: Path, annotator: str | None = None, seed: int = 0, say: Say = say
) -> Path:
    """Groups about scenes: exact answers without an annotator; the base's answers with preferences with one."""
    questions = [make_question(task, split, index, seed=seed) for index in range(num)]
    groups = [exact_group(question) for question in questions]
    if annotator is not None:
        base, _ = load_trained("world:base")
        sampled = sample_groups(base, [group.prompt for group in groups], num=8, max_tokens=128, seed=seed)
        judged = [annotate(group, annotator, seed=seed) for group in sampled]
        groups = [group for group in judged if group.signals]
        say(f"{len(groups)} of {num} groups hold a preference; in the others all answers were alike")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_groups(out, groups)
    return out


def world_prompts(*, task: str, split: str, num: int, out: Path, seed: int = 0) -> Path:
    """Questions about scenes without answers, for runs that sample their own."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_groups(out, (Group(prompt=prompt) for prompt in task_prompts(task, split, num, seed=seed)))
    return out


def sample_groups(
    loaded: Loaded,
    prompts: Sequence[Prompt],
    *,
    num: int,
    max_tokens: int,
    seed: int,
    temperature: float = 1.0,
    batch_size: int = 32,
) -> list[Group]:
    """`num` sampled answers for each prompt, equal ones kept once, as groups."""
    policy = reading_policy(loaded)
    inputs = make_inputs(loaded)
    params = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=seed)
    groups: list[Group] = []
    with phase("sampling answers to prompt", len(prompts)) as sampled:
        for start in range(0, len(prompts), batch_size):
            part = prompts[start : start + batch_size]
            tokens = [inputs.prompt(prompt) for prompt in part]
            found = sample(policy, tokens, num=num, params=params, ends=inputs.ends)
            for prompt, answers in zip(part, found, strict=True):
                groups.append(Group(prompt=prompt, completions=_completions(inputs, answers, params)))
            sampled.reach(len(groups))
    return groups


def _completions(inputs: Inputs, answers: Sequence[Any], params: SamplingParams) -> tuple[Completion, ...]:
    distinct = {answer.token_ids: answer for answer in answers}
    return tuple(
        Completion(
            text=inputs.text(answer.token_ids),
            token_ids=answer.token_ids,
            behaviour_logprobs=answer.logprobs,
            finish_reason=answer.finish_reason,
            sampling={"temperature": params.temperature, "seed": params.seed},
            policy_step=0,
            source="policy",
        )
        for answer in distinct.values()
    )
