"""What the keys of a recipe say about each other where something learns from rewards: what contradicts, what is unread.

An option that would do nothing is refused with the key that would make it do something, before anything is loaded.
Knows what the values mean, and nothing of how they are put to work.
"""

from collections.abc import Iterator

from sightline.config.rl import ADVANTAGE_OF, Critic, PolicyGradient, Rollout
from sightline.config.schema import Recipe

GROUP_RULES = ("grpo", "dr_grpo", "rloo", "reinforce_pp_baseline", "opo")
"""Advantages that compare the answers of a group."""
TOKEN_RULES = ("gae", "reinforce_pp")
"""Advantages of single tokens, which follow rewards along an answer."""
CEILINGS = {"dual": 3, "two_sided": 4}
"""Ratio of a bad token above which these clips hold it; must lie above 1 + clip_high."""


class Contradiction(Exception):
    """Two keys that do not go together."""

    def __init__(self, path: str, sentence: str) -> None:
        """`path` is dotted."""
        self.path = tuple(path.split("."))
        self.sentence = sentence


def check_rewards(recipe: Recipe) -> None:
    """Rewards are there exactly when something learns from them, and every key about them is read."""
    objective, rewarded = recipe.objective, bool(recipe.rewards)
    if objective.kind in ("sft", "ranking") and rewarded:
        raise Contradiction("rewards", f"are not read by {objective.kind}; remove them, or use kind: grpo")
    if isinstance(objective, PolicyGradient) and not rewarded:
        raise Contradiction("rewards", f"are missing, and {objective.kind} learns from nothing else; list at least one")
    for path, sentence in _unread(recipe):
        raise Contradiction(path, sentence)
    if not rewarded:
        return
    _check_rollout(recipe)
    if isinstance(objective, PolicyGradient):
        _check_advantage(recipe, objective)
        _check_clip(recipe, objective)
    elif recipe.rollout.combine != "sum":
        raise Contradiction("rollout.combine", "is normalise_then_sum, but pairs compare sums; set it to sum")


def _unread(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Keys that are given and would do nothing, each with who reads it."""
    objective, rollout = recipe.objective, recipe.rollout
    if recipe.critic != Critic() and objective.kind != "ppo":
        yield "critic", f"is read by ppo alone, and the kind is {objective.kind}; remove the block"
    if not recipe.rewards:
        if rollout != Rollout():
            yield "rollout", "says how answers are sampled and judged, and there are no rewards; remove the block"
        return
    if rollout.reward_workers == 0 and rollout.reward_timeout != Rollout().reward_timeout:
        yield "rollout.reward_timeout", "needs a process that can be ended; set rollout.reward_workers to 1 or more"
    if rollout.max_refills > 0 and rollout.group_size == 1:
        yield "rollout.max_refills", "replaces groups whose answers are worth the same, and one answer always is; set 0"
    if isinstance(objective, PolicyGradient):
        yield from _unread_by_policy(recipe, objective)


def _unread_by_policy(recipe: Recipe, objective: PolicyGradient) -> Iterator[tuple[str, str]]:
    if recipe.rollout.pairs != "best_worst":
        yield "rollout.pairs", f"is read by dpo alone, and {objective.kind} compares no pairs; remove it"
    if _rule(objective) not in TOKEN_RULES:
        for number, entry in enumerate(recipe.rewards):
            if entry.at != "end":
                sentence = f"is {entry.at}, and {objective.kind} gives an answer one advantage; use ppo or reinforce_pp"
                yield f"rewards.{number}.at", sentence
    yield from _unread_by_loss(objective)


def _unread_by_loss(objective: PolicyGradient) -> Iterator[tuple[str, str]]:
    usual = PolicyGradient(kind=objective.kind)
    if objective.discount != usual.discount and _rule(objective) not in TOKEN_RULES:
        yield "objective.discount", "is read by ppo and by advantage: reinforce_pp alone; remove it"
    if objective.gae_lambda != usual.gae_lambda and objective.kind != "ppo":
        yield "objective.gae_lambda", "is read by ppo alone; remove it"
    if objective.kl_estimator is not None and objective.kl_weight == 0:
        yield "objective.kl_estimator", "estimates a divergence of weight 0; give objective.kl_weight, or remove it"
    if objective.kl_horizon != usual.kl_horizon and objective.kl_target is None:
        yield "objective.kl_horizon", "says how fast objective.kl_target is followed; give that too, or remove it"
    for key in ("clip_low", "clip_high"):
        if vars(objective)[key] is not None and _clip(objective) == "none":
            yield f"objective.{key}", f"bounds a ratio, and {objective.kind} takes none; set objective.clip: ppo"


def _check_rollout(recipe: Recipe) -> None:
    """Groups hold something to compare, updates come out even, bounds lie in order."""
    objective, rollout, per_step = recipe.objective, recipe.rollout, recipe.train.groups_per_step
    if isinstance(objective, PolicyGradient):
        compares, what = _rule(objective) in GROUP_RULES, objective.advantage or objective.kind
    else:
        compares, what = True, objective.kind
    if compares and rollout.group_size == 1:
        sentence = f"is 1, but {what} compares the answers of a group; use 2 or more, or kind: reinforce"
        raise Contradiction("rollout.group_size", sentence)
    if rollout.prompts is not None and rollout.prompts % per_step:
        sentence = f"is {rollout.prompts}; give a multiple of train.groups_per_step, or leave it out"
        raise Contradiction("rollout.prompts", sentence)
    if rollout.difficulty is not None and rollout.difficulty[0] > rollout.difficulty[1]:
        low, high = rollout.difficulty
        raise Contradiction("rollout.difficulty", f"begins at {low}, above its end {high}; exchange them")


def _check_advantage(recipe: Recipe, objective: PolicyGradient) -> None:
    """A weight that is steered has a start; sums and single rewards are not mixed up."""
    if objective.kl_target is not None and objective.kl_weight == objective.kl_in_reward == 0:
        sentence = "steers a weight that is 0; give objective.kl_in_reward or kl_weight a start"
        raise Contradiction("objective.kl_target", sentence)
    if objective.kind == "gspo" and _rule(objective) in TOKEN_RULES and objective.ratio != "sequence_token":
        sentence = f"{objective.advantage} gives each token its own, and ratio: sequence takes one of an answer"
        raise Contradiction("objective.advantage", f"{sentence}; set objective.ratio: sequence_token")
    if recipe.rollout.combine == "sum":
        return
    if objective.kl_in_reward > 0:
        raise Contradiction(
            "objective.kl_in_reward", "has no sum to be taken off with combine: normalise_then_sum; use kl_weight"
        )
    if _rule(objective) != "grpo":
        sentence = f"is normalise_then_sum, which normalises rewards as advantage: grpo does, not {_rule(objective)}"
        cure = "set it to sum" if objective.kind == "ppo" else "set objective.advantage: grpo, or combine: sum"
        raise Contradiction("rollout.combine", f"{sentence}; {cure}")
    if any(entry.gate is not None for entry in recipe.rewards):
        raise Contradiction("rollout.combine", "is normalise_then_sum, which leaves no sum to gate; remove the gates")
    if any(entry.optional for entry in recipe.rewards):
        sentence = "is normalise_then_sum, and a reward without an opinion has nothing to normalise"
        raise Contradiction("rollout.combine", f"{sentence}; set rewards.optional to false, or combine: sum")


def _check_clip(recipe: Recipe, objective: PolicyGradient) -> None:
    """Several updates have a ratio that says how far the policy has moved; a ceiling lies above the clip."""
    clip, rollout, per_step = _clip(objective), recipe.rollout, recipe.train.groups_per_step
    updates = rollout.passes * (rollout.prompts or per_step) // per_step
    if updates > 1 and clip == "none":
        key = "rollout.passes" if rollout.passes > 1 else "rollout.prompts"
        cure = "objective.clip: ppo" if objective.kind != "reinforce" else "kind: reinforce_pp"
        sentence = f"gives every rollout {updates} updates, and {objective.kind} without a clip takes no ratio, so that"
        raise Contradiction(key, f"{sentence} all but the first go astray; leave it out, or set {cure}")
    ceiling = CEILINGS.get(clip)
    if ceiling is not None and objective.clip_high is not None and objective.clip_high >= ceiling - 1:
        sentence = f"is {objective.clip_high}, and clip: {clip} holds bad tokens at a ratio of {ceiling}"
        raise Contradiction("objective.clip_high", f"{sentence}; keep it below {ceiling - 1}")


def _rule(objective: PolicyGradient) -> str:
    return objective.advantage or ADVANTAGE_OF[objective.kind]


def _clip(objective: PolicyGradient) -> str:
    return objective.clip or ("none" if objective.kind in ("rloo", "reinforce") else "ppo")
