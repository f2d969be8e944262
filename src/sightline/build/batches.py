"""From checked groups to batches: the recipe's objective, what it reads of a group, and its reference."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from sightline.batch import Batch, read_in_portions
from sightline.build.loading import Row
from sightline.build.rl import CREDIT_OPTIONS, is_on_policy, learns_from_rewards
from sightline.config import Recipe
from sightline.config.rl import PolicyGradient
from sightline.config.schema import Ranking
from sightline.models.forward import Policy
from sightline.models.load import Loaded
from sightline.models.reference import KeptLogprobs, Reference, adapter_off, frozen_copy
from sightline.objectives.objective import Objective
from sightline.objectives.policy_gradient import on_policy
from sightline.objectives.surrogates import Truncation
from sightline.progress import Say, phase
from sightline.registry import find
from sightline.train.distributed import gathered, own_share
from sightline.train.feeds import comparison_batch, group_batch, with_reference

RATING_OPTIONS = (
    "likelihood",
    "own_answer",
    "own_answer_tokens",
    "phrase_pattern",
    "head_learning_rate",
    "members",
    "member_hidden",
    "member_epochs",
)
"""Keys of the ranking block that are not the loss's."""


def make_objective(recipe: Recipe) -> Objective:
    """The recipe's objective with its options; what is null is left to the objective."""
    options = recipe.objective.model_dump(exclude={"kind", *CREDIT_OPTIONS, *RATING_OPTIONS}, exclude_none=True)
    if recipe.objective.kind in ("dr_grpo", "rloo", "reinforce"):
        options["max_length"] = recipe.rollout.max_tokens
    if isinstance(recipe.objective, PolicyGradient) and recipe.objective.truncation is not None:
        bounds = {"cap": options.pop("truncation_cap")} if "truncation_cap" in options else {}
        options["truncation"] = Truncation(level=options["truncation"], **bounds)
    made = find("objective", recipe.objective.kind)(**options)
    return on_policy(made) if isinstance(recipe.objective, PolicyGradient) and is_on_policy(recipe) else made


def batch_maker(recipe: Recipe) -> Callable[[Sequence[Row]], Batch]:
    """What turns checked groups into the batch that the recipe's objective reads."""
    objective = recipe.objective

    def make(items: Sequence[Row]) -> Batch:
        readers = {id(group.prompt): inputs for group, inputs in items}
        readers |= {id(answer): inputs for group, inputs in items for answer in group.completions}
        groups = [group for group, _ in items]
        prompt = lambda prompt: readers[id(prompt)].prompt(prompt)  # noqa: E731
        answer = lambda answer: readers[id(answer)].answer(answer)  # noqa: E731
        if isinstance(objective, Ranking):
            return comparison_batch(groups, attributes=objective.attributes, prompt=prompt, answer=answer)
        return group_batch(groups, objective=objective.kind, prompt=prompt, answer=answer)

    return make


def batches(
    groups: Sequence[Row], recipe: Recipe, reference: Reference | None, *, shared: bool = True
) -> Iterator[Batch]:
    """The groups as batches of a step each, in order; of each batch a process has its share, unless not `shared`."""
    make, size = batch_maker(recipe), recipe.train.groups_per_step
    parts = (groups[start : start + size] for start in range(0, len(groups), size))
    return (with_reference(make(own_share(part) if shared else part), reference) for part in parts)


def make_reference(
    recipe: Recipe, policy: Policy, loaded: Loaded, groups: Sequence[Sequence[Row]], say: Say
) -> Reference | None:
    """What the policy is compared with; log-probs that are kept are worked out here."""
    kind, token_budget = recipe.reference.kind, recipe.train.token_budget
    if kind == "none":
        return None
    if kind == "cached" and learns_from_rewards(recipe):
        raise ValueError("reference.kind: cached knows no answers before they are sampled; use copy")
    if kind == "adapter_off":
        return _in_portions(policy, adapter_off(policy, loaded), token_budget)
    if kind == "copy":
        return _in_portions(policy, frozen_copy(policy, loaded), token_budget)
    assert recipe.reference.cache is not None
    kept = KeptLogprobs(Path(recipe.reference.cache), policy, loaded)
    num_new = sum(gathered([sum(kept.keep(_counted(some, recipe), token_budget=token_budget) for some in groups)]))
    kept.look()  # at what other processes wrote
    say(f"reference: log-probs of {num_new} answers computed, the others were kept in {recipe.reference.cache}")
    return kept


def _counted(groups: Sequence[Row], recipe: Recipe) -> Iterator[Batch]:
    """The batches of the groups, with how far the reference is."""
    with phase("reference", len(groups)) as scored:
        for batch in batches(groups, recipe, None):
            yield batch
            scored.reach(min(len(groups), scored.done + recipe.train.groups_per_step))


def _in_portions(policy: Policy, reference: Reference, token_budget: int) -> Reference:
    """The reference, read in portions under the budget while all weights are together."""

    def score(batch: Batch) -> Tensor:
        with policy.whole_weights():
            return read_in_portions(reference, batch, token_budget=token_budget)

    return score
