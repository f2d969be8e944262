"""Comparisons of given answers: by any reward, and which of them become pairs to learn from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

from sightline.build.run_judge import context_of, picture_of
from sightline.build.scorers import open_scorers
from sightline.config.rl import RewardEntry
from sightline.models.inputs import Inputs
from sightline.pictures import MAX_PIXELS
from sightline.records import Group, Pair
from sightline.rewards.contract import Score
from sightline.rewards.judging import make_judge
from sightline.rewards.pool import Call
from sightline.world.annotators import quality

AT_ONCE = 64


def compared_by_reward(groups: Sequence[Group], entry: RewardEntry, readers: Mapping[str, Inputs]) -> list[Group]:
    """The groups with a pair for every two answers that the reward values differently, widest difference first."""
    label = entry.label or entry.name.rpartition(":")[2]
    found: list[Group] = []
    for group, scores in zip(groups, scored(groups, entry, readers), strict=True):
        values = [None if score is None else score.value for score in scores]
        pairs = []
        for i, j in combinations(range(len(values)), 2):
            first, second = values[i], values[j]
            if first is None or second is None or math.isclose(first, second):
                continue
            better, worse = (i, j) if first > second else (j, i)
            pairs.append(Pair(chosen=better, rejected=worse, margin=abs(first - second), source=label))
        pairs.sort(key=lambda pair: -(pair.margin or 0.0))
        found.append(replace(group, signals=tuple(pairs)))
    return found


def scored(groups: Sequence[Group], entry: RewardEntry, readers: Mapping[str, Inputs]) -> list[list[Score | None]]:
    """What one reward says of every answer of some groups, models behind rewards included."""
    most = max((inputs.store.max_pixels for inputs in readers.values()), default=MAX_PIXELS)
    judge = make_judge([entry.model_dump()], max_image_pixels=most)
    found: list[list[Score | None]] = []
    with open_scorers([entry], readers) as scorers:
        for start in range(0, len(groups), AT_ONCE):
            some = groups[start : start + AT_ONCE]
            prompts, answers = [group.prompt for group in some], [group.completions for group in some]
            said = {label: scorer(prompts, answers) for label, scorer in scorers.items()}
            for number, group in enumerate(some):
                inputs = readers[group.prompt.id]
                context, picture = context_of(group.prompt, inputs, progress=1.0), picture_of(group.prompt, inputs)
                row = []
                for i, completion in enumerate(group.completions):
                    given = {label: scores[number][i] for label, scores in said.items()}
                    about = replace(context, given=given)
                    row.append(judge(Call(completion=completion, context=about, picture=picture)))
                found.append(row)
    return found


def choose_pairs(group: Group, which: Literal["all", "best_worst", "balanced"]) -> Group | None:
    """The group with the pairs that are learned from and the answers in them; None where there are none."""
    pairs = [signal for signal in group.signals if isinstance(signal, Pair) and not signal.tie]
    if which == "best_worst":
        pairs = pairs[:1]
    if which == "balanced":
        return balanced(group)
    return _with(group, pairs) if pairs else None


def balanced(group: Group) -> Group | None:
    """One pair whose chosen answer is shorter and one whose chosen answer is longer, each of the greatest difference.

    Inventing makes answers longer. Taken as they come, the shorter answer wins most pairs, DPO learns brevity, and the
    model leaves out what is there. Balanced, length says nothing about who wins, and what is left to learn is which
    words are true. Length is all that the choice looks at; the truth is not known here.
    """
    shorter, longer = None, None
    for pair in group.signals:
        assert isinstance(pair, Pair)
        chosen, rejected = (len(group.completions[i].text.split()) for i in (pair.chosen, pair.rejected))
        if chosen < rejected and shorter is None:
            shorter = pair
        if chosen > rejected and longer is None:
            longer = pair
    return None if shorter is None or longer is None else _with(group, [shorter, longer])


def wrong_shares(groups: Sequence[Group]) -> dict[str, float]:
    """Of pairs about drawn scenes, the shares that choose the truly worse answer: all, and by who is longer."""
    wrong: dict[str, list[bool]] = {"all": [], "shorter": [], "longer": []}
    for group in groups:
        assert group.prompt.task is not None
        worth = [quality(answer.text, group.prompt.task, group.prompt.truth) for answer in group.completions]
        words = [len(answer.text.split()) for answer in group.completions]
        for pair in group.signals:
            assert isinstance(pair, Pair)
            errs = worth[pair.chosen] < worth[pair.rejected]
            wrong["all"].append(errs)
            if words[pair.chosen] != words[pair.rejected]:
                wrong["longer" if words[pair.chosen] > words[pair.rejected] else "shorter"].append(errs)
    return {name: sum(some) / len(some) for name, some in wrong.items() if some}


def _with(group: Group, pairs: Sequence[Pair]) -> Group:
    used = sorted({i for pair in pairs for i in (pair.chosen, pair.rejected)})
    signals = tuple(replace(pair, chosen=used.index(pair.chosen), rejected=used.index(pair.rejected)) for pair in pairs)
    return replace(group, completions=tuple(group.completions[i] for i in used), signals=signals)
