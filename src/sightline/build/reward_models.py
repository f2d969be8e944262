"""Reward models at work: what a finished run of objective.kind ranking left in its folder `scorer/`.

It holds the members of the ensemble (safetensors) and what is known of them (JSON): attributes, temperature, accuracy
on held-out comparisons, by aspect and by which side is longer. Written by `rating`.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline.build.loading import load_trained
from sightline.build.own_answers import own_answers_at_work
from sightline.config import Recipe
from sightline.config.schema import Ranking
from sightline.journal import named
from sightline.models.heads import RatingHead
from sightline.models.load import Loaded
from sightline.models.reading import reading_policy
from sightline.models.scorers import Rater
from sightline.run_files import check_row, read_json
from sightline.train.checkpoint import read_tensors

FOLDER, MEMBERS, FACTS = "scorer", "members.safetensors", "scorer.json"
NEEDS = {"members": int, "width": int, "hidden": int, "attributes": list}


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModel:
    """A reward model at work."""

    rater: Rater
    """Rates answers."""
    loaded: Loaded
    """Its backbone, with the processor that it reads with."""
    attributes: tuple[str, ...]
    """Names of its attributes."""
    facts: dict[str, Any]
    """What `scorer.json` says."""


def load_reward_model(target: str) -> RewardModel:
    """The reward model of a finished run."""
    run, which = named(target)
    if which is not None:
        raise ValueError(f"{target}: a reward model's heads are those of its last checkpoint; name {run}")
    loaded, recipe = load_trained(target)
    folder = run / FOLDER
    if recipe is None or not isinstance(recipe.objective, Ranking):
        kind = "a model" if recipe is None else f"a run of {recipe.objective.kind}"
        raise ValueError(
            f"{target} is {kind}, not a reward model; name the folder of a run with objective.kind ranking"
        )
    if not (folder / FACTS).is_file():
        raise ValueError(f"{target} has no {FOLDER}/{FACTS}: its training is not finished; sightline resume {target}")
    facts = read_json(folder / FACTS)
    if "members" in facts and "with_agreement" not in facts:
        raise ValueError(f"{target} was made by an older Sightline, whose heads read other things; train it anew")
    check_row(facts, NEEDS, str(folder / FACTS), folder / FACTS)
    flags = [facts.get(name) for name in ("with_length", "with_likelihood", "with_agreement")]
    sizes = (facts["members"], facts["width"], facts["hidden"])
    if not all(isinstance(flag, bool) for flag in flags) or not all(0 < size <= 100_000 for size in sizes):
        raise ValueError(f"{folder / FACTS}: the members' form cannot be read; train the reward model anew")
    try:
        return _reward_model(loaded, recipe, facts, read_tensors(folder / MEMBERS))
    except (KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder / MEMBERS} does not fit {FACTS} ({why}); train the reward model anew") from error


def _reward_model(loaded: Loaded, recipe: Recipe, facts: dict[str, Any], tensors: dict[str, Tensor]) -> RewardModel:
    """Members made from what is known of them, at work on the backbone."""
    members = []
    for number in range(facts["members"]):
        head = RatingHead(
            facts["width"],
            num_attributes=len(facts["attributes"]),
            with_length=facts["with_length"],
            with_likelihood=facts["with_likelihood"],
            with_agreement=facts["with_agreement"],
            hidden=facts["hidden"],
        )
        prefix = f"{number}."
        head.load_state_dict({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
        members.append(head)
    policy = reading_policy(loaded)
    if facts["with_agreement"]:
        policy.own = own_answers_at_work(recipe, loaded, policy)
    rater = Rater(policy=policy, members=members, units=tensors["units"], ends=loaded.ends)
    return RewardModel(rater=rater, loaded=loaded, attributes=tuple(facts["attributes"]), facts=facts)
