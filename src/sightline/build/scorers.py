"""Models behind rewards: loaded once for a run, asked about all answers of a rollout together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from statistics import fmean
from typing import Any

from sightline.build.judge_parts import embedded
from sightline.build.judges import open_judge
from sightline.build.reward_models import RewardModel, load_reward_model
from sightline.config.judge import load_judge
from sightline.config.rl import RewardEntry
from sightline.models.contrast import ContrastiveScorer, load_contrastive, stored_picture
from sightline.models.inputs import Inputs, PictureLimits
from sightline.models.load import Loaded
from sightline.models.scorers import Rating
from sightline.records import Completion, Prompt, RecordError
from sightline.registry import check_options
from sightline.rewards.contract import Score
from sightline.rewards.models import MODEL_REWARDS, clip, judge, learned
from sightline.world.weights import resolve

Scorer = Callable[[Sequence[Prompt], Sequence[Sequence[Completion]]], list[list[Score | None]]]
"""What a model says of each prompt's answers."""


@contextmanager
def open_scorers(entries: Sequence[RewardEntry], readers: Mapping[str, Inputs]) -> Iterator[dict[str, Scorer]]:
    """The models that the rewards of a recipe need, by the reward's label; `readers` by prompt id open its pictures.

    None is asked about prompts of tasks that its reward is not for.
    """
    with ExitStack() as stack:
        found: dict[str, Scorer] = {}
        for entry in entries:
            if entry.name in MODEL_REWARDS:
                scorer = _MAKERS[entry.name](entry.options, readers, stack)
                found[entry.label or entry.name] = _only(entry.tasks, scorer)
        yield found


def _only(tasks: Sequence[str], scorer: Scorer) -> Scorer:
    """The scorer on prompts of some tasks; it has no opinion on others."""
    if not tasks:
        return scorer

    def score(prompts: Sequence[Prompt], answers: Sequence[Sequence[Completion]]) -> list[list[Score | None]]:
        asked = [i for i, prompt in enumerate(prompts) if prompt.task in tasks]
        said = dict(zip(asked, scorer([prompts[i] for i in asked], [answers[i] for i in asked]), strict=True))
        return [said.get(i, [None] * len(group)) for i, group in enumerate(answers)]

    return score


def learned_scorer(options: Mapping[str, Any], readers: Mapping[str, Inputs], stack: ExitStack) -> Scorer:
    """Ratings by a reward model, less `penalty` times their spread."""
    check_options(learned, options)
    if not options.get("run"):
        raise ValueError("rewards: learned: run is missing; name the folder of a finished run of kind ranking")
    run, penalty = str(options["run"]), float(options.get("penalty", 1.0))
    model = load_reward_model(run)

    def score(prompts: Sequence[Prompt], answers: Sequence[Sequence[Completion]]) -> list[list[Score | None]]:
        own = [_reader(readers[prompt.id], model.loaded) for prompt in prompts]
        tokens = [reader.prompt(prompt) for reader, prompt in zip(own, prompts, strict=True)]
        read = [[_tokens(reader, one) for one in group] for reader, group in zip(own, answers, strict=True)]
        ratings = model.rater.rate(tokens, read)
        return [[as_score(model, rating, penalty) for rating in group] for group in ratings]

    return score


def as_score(model: RewardModel, rating: Rating, penalty: float) -> Score:
    """A rating as a reward with its parts."""
    parts = {"mean": rating.mean, "spread": rating.spread}
    named = zip(model.attributes, rating.attributes, strict=True)
    return Score(value=rating.less(penalty), parts=parts | dict(named))


def clip_scorer(options: Mapping[str, Any], readers: Mapping[str, Inputs], stack: ExitStack) -> Scorer:
    """Similarity of each answer to the pictures of its prompt."""
    check_options(clip, options)
    if not options.get("model"):
        raise ValueError("rewards: clip: model is missing; give a CLIP or SigLIP model: a folder, a hub id, world:clip")
    given = {name: value for name, value in options.items() if name != "model"}
    scorer = ContrastiveScorer(load_contrastive(resolve(str(options["model"]))), **given)

    def score(prompts: Sequence[Prompt], answers: Sequence[Sequence[Completion]]) -> list[list[Score | None]]:
        pictures, texts, owners = [], [], []
        for number, (prompt, group) in enumerate(zip(prompts, answers, strict=True)):
            seen = [stored_picture(readers[prompt.id].store, image) for image in prompt.images]
            for i, completion in enumerate(group):
                pictures += seen
                texts += [completion.text] * len(seen)
                owners += [(number, i)] * len(seen)
        found: list[list[list[float]]] = [[[] for _ in group] for group in answers]
        for (number, i), value in zip(owners, scorer.score(pictures, texts), strict=True):
            found[number][i].append(value)
        return [[Score(value=fmean(values)) if values else None for values in group] for group in found]

    return score


def judge_scorer(options: Mapping[str, Any], readers: Mapping[str, Inputs], stack: ExitStack) -> Scorer:
    """A judge's score of each answer; replies are kept in its cache, so that nothing is asked twice."""
    check_options(judge, options)
    if not options.get("recipe"):
        raise ValueError(
            "rewards: judge: recipe is missing; name a judge that ships, such as judges/vlfeedback, or a file"
        )
    recipe = load_judge(str(options["recipe"]), [str(given) for given in options.get("overrides", ())])
    opened = stack.enter_context(open_judge(recipe, say=lambda line: None))

    def score(prompts: Sequence[Prompt], answers: Sequence[Sequence[Completion]]) -> list[list[Score | None]]:
        inside = [embedded(prompt, readers[prompt.id].store) for prompt in prompts]
        return opened.scores(inside, [[completion.text for completion in group] for group in answers])

    return score


def _reader(inputs: Inputs, loaded: Loaded) -> Inputs:
    """The scorer's own reader of prompts, on the pictures of the policy's."""
    limits = PictureLimits() if loaded.family.within is None else inputs.limits
    return replace(inputs, processor=loaded.processor, family=loaded.family, turns=loaded.turns, limits=limits)


def _tokens(reader: Inputs, completion: Completion) -> tuple[int, ...]:
    """The answer's text in the scorer's own tokens; its end alone where it says nothing, or spells what is no text."""
    try:
        return reader.answer(Completion(text=completion.text))
    except RecordError:
        return (reader.end_of_turn,)


_MAKERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Inputs], ExitStack], Scorer]] = {
    "learned": learned_scorer,
    "clip": clip_scorer,
    "judge": judge_scorer,
}
