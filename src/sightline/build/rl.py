"""What a run that learns from rewards has besides a run on data: sampler, judge, credit, critic, and their feed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from sightline.batch import Batch, PromptTokens
from sightline.build.loading import Row
from sightline.config import Recipe
from sightline.config.rl import ADVANTAGE_OF, PolicyGradient
from sightline.data.stream import Stream
from sightline.journal import Journal
from sightline.models.forward import Policy
from sightline.models.heads import Critic, make_critic
from sightline.models.inputs import Inputs
from sightline.models.load import Loaded
from sightline.models.sampler import SamplingParams, sample
from sightline.progress import phase
from sightline.records import Completion
from sightline.train.credit import Credit
from sightline.train.engine import read_step
from sightline.train.pairing import Pairing
from sightline.train.roles import Judge, Score
from sightline.train.rollouts import RolloutFeed, RolloutPlan

CREDIT_OPTIONS = ("advantage", "kl_in_reward", "kl_target", "kl_horizon", "discount", "gae_lambda")
"""Keys of the objective's block that the feed reads, not the loss."""


def learns_from_rewards(recipe: Recipe) -> bool:
    """Whether the run samples answers and judges them; a preference loss with rewards does so too."""
    return bool(recipe.rewards)


def temperature_of(recipe: Recipe) -> float:
    """Of the distribution that is trained: that of sampling, where answers are sampled."""
    return recipe.rollout.temperature if learns_from_rewards(recipe) else 1.0


def make_run_critic(recipe: Recipe, loaded: Loaded) -> Critic | None:
    """The critic that the recipe asks for: for ppo alone."""
    if recipe.objective.kind != "ppo":
        return None
    if recipe.critic.separate and (recipe.model.train_tower or recipe.model.train_projector):
        raise ValueError(
            "critic.separate shares tower and projector with the policy; leave both frozen, or set it false"
        )
    return make_critic(loaded.model, loaded.family, separate=recipe.critic.separate)


def rollout_feed(
    recipe: Recipe,
    rows: Sequence[Row],
    policy: Policy,
    judge: Judge,
    reference: Callable[[Batch], Tensor] | None,
    num_steps: int,
) -> RolloutFeed:
    """The feed of sampled and judged answers."""
    plan = replace(rollout_plan(recipe), num_steps=num_steps)
    stream = Stream(len(rows), seed=recipe.seed, batch_size=plan.prompts, epochs=None)
    prompts = [group.prompt for group, _ in rows]
    return RolloutFeed(
        prompts,
        stream,
        plan,
        weights=policy.whole_weights,
        read=lambda row: rows[row][1].prompt(prompts[row]),
        sample=sampler(recipe, policy, rows[0][1]),
        judge=judge,
        score=make_score(recipe, policy),
        credit=make_pairing(recipe, reference)
        if recipe.objective.kind == "dpo"
        else make_credit(recipe, rows[0][1], reference),
    )


def is_on_policy(recipe: Recipe) -> bool:
    """Whether every update is the only one on its rollout, so that the policy that learns is the one that sampled."""
    return learns_from_rewards(recipe) and rollout_plan(recipe).steps_per_rollout == 1


def scored_anew(recipe: Recipe) -> frozenset[str]:
    """What the policy is asked about a rollout once more before it is learned from: log-probs for the ratios of later
    updates and for the KL in the reward, values for the critic's advantages; empty where nothing reads them."""
    objective = recipe.objective
    if not isinstance(objective, PolicyGradient):
        return frozenset()
    compared = objective.kl_in_reward > 0 or objective.kl_target is not None
    logprobs = {"logprobs"} if compared or not is_on_policy(recipe) else set()
    return frozenset(logprobs | ({"values"} if objective.kind == "ppo" else set()))


def make_score(recipe: Recipe, policy: Policy) -> Score | None:
    """What reads a rollout once more before it is learned from; None where nothing asks."""
    want = scored_anew(recipe)
    if not want:
        return None

    def score(batch: Batch) -> dict[str, Tensor]:
        found = read_step(policy, batch, want=want, token_budget=recipe.train.token_budget)
        columns = {"behaviour_logprobs": found.logprobs} if "logprobs" in want else {}
        return columns | ({} if found.values is None else {"old_values": found.values})

    return score


def rollout_plan(recipe: Recipe) -> RolloutPlan:
    """Sizes of a rollout."""
    settings, per_step = recipe.rollout, recipe.train.groups_per_step
    return RolloutPlan(
        prompts=settings.prompts or per_step,
        prompts_per_step=per_step,
        group_size=settings.group_size,
        passes=settings.passes,
        max_refills=settings.max_refills,
        difficulty=settings.difficulty,
        drop_cut=settings.drop_cut,
        seed=recipe.seed,
    )


def sampler(recipe: Recipe, policy: Policy, inputs: Inputs) -> Callable[..., list[tuple[Completion, ...]]]:
    """Sampling with the recipe's settings, some prompts at a time."""
    settings = recipe.rollout

    def draw(prompts: Sequence[PromptTokens], *, num: int, seed: int) -> list[tuple[Completion, ...]]:
        params = SamplingParams(
            temperature=settings.temperature, max_tokens=settings.max_tokens, seed=seed, stop=settings.stop
        )
        found: list[tuple[Completion, ...]] = []
        with phase("sampling answers to prompt", len(prompts)) as sampled:
            for start in range(0, len(prompts), settings.prompts_at_once):
                part = prompts[start : start + settings.prompts_at_once]
                drawn = sample(policy, part, num=num, params=params, ends=inputs.ends, text=inputs.text)
                found += [tuple(as_completion(inputs, answer, params) for answer in answers) for answers in drawn]
                sampled.reach(len(found))
        return found

    return draw


def as_completion(inputs: Inputs, answer: Any, params: SamplingParams) -> Completion:
    """A sampled answer as a record."""
    return Completion(
        text=inputs.text(answer.token_ids),
        token_ids=answer.token_ids,
        behaviour_logprobs=answer.logprobs,
        finish_reason=answer.finish_reason,
        sampling={"temperature": params.temperature, "seed": params.seed},
        source="policy",
    )


def make_pairing(recipe: Recipe, reference: Callable[[Batch], Tensor] | None) -> Pairing:
    """How judged answers become preference pairs."""
    return Pairing(which=recipe.rollout.pairs, token_budget=recipe.train.token_budget, reference=reference)


def make_credit(recipe: Recipe, inputs: Inputs, reference: Callable[[Batch], Tensor] | None) -> Credit:
    """How the recipe's objective turns rewards into advantages."""
    objective: Any = recipe.objective
    weights = tuple((entry.label or entry.name.rpartition(":")[2], entry.weight) for entry in recipe.rewards)
    return Credit(
        rule=objective.advantage or ADVANTAGE_OF[objective.kind],
        token_budget=recipe.train.token_budget,
        reference=reference,
        kl_in_reward=objective.kl_in_reward,
        discount=objective.discount,
        gae_lambda=objective.gae_lambda,
        text_ends=inputs.text_ends,
        kl_target=objective.kl_target,
        kl_horizon=float(objective.kl_horizon),
        warmup=-(-recipe.critic.warmup_steps // rollout_plan(recipe).steps_per_rollout),
        apart=weights if recipe.rollout.combine == "normalise_then_sum" else (),
    )


def time_outside(journal: Journal) -> str:
    """How much of the updates went neither into sampling nor into forward and backward passes."""
    shares = [row["time/outside_model"] for row in journal.read_metrics() if "time/outside_model" in row]
    return f"{sum(shares) / max(1, len(shares)):.1%} of the updates' time was spent outside the model"
