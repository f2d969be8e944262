"""The blocks of a recipe that learns from rewards: objective, rewards, rollout, critic.

The line under a field is its entry in docs/recipes.md. Knows nothing of what the values do.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from sightline.config.values import STRICT, Count, NotNegative, Positive, Share, Whole
from sightline.registry import check_name

PolicyGradientKind = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce", "reinforce_pp", "ppo"]

Advantage = Literal["grpo", "dr_grpo", "rloo", "reinforce", "reinforce_pp", "reinforce_pp_baseline", "opo"]

_CLIPPED = ("grpo", "dr_grpo", "dapo", "gspo", "rloo", "reinforce_pp", "ppo")
TAKEN_BY: dict[str, tuple[str, ...]] = {
    "advantage": ("grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce", "reinforce_pp"),
    "clip": ("rloo", "ppo"),
    "clip_low": _CLIPPED,
    "clip_high": (*_CLIPPED, "cispo"),
    "ratio": ("gspo",),
    "aggregation": ("grpo",),
    "top_entropy": ("grpo", "dr_grpo", "dapo", "cispo"),
    "value_weight": ("ppo",),
    "value_clip": ("ppo",),
}
"""Which kinds read a key that is null unless it is given."""

ADVANTAGE_OF: dict[str, str] = {
    "grpo": "grpo",
    "dr_grpo": "dr_grpo",
    "dapo": "grpo",
    "gspo": "grpo",
    "cispo": "grpo",
    "rloo": "rloo",
    "reinforce": "reinforce",
    "reinforce_pp": "reinforce_pp",
    "ppo": "gae",
}
"""The advantage of a kind that names none; "gae" is the critic's."""


class PolicyGradient(BaseModel):
    """Make well-rewarded answers more likely."""

    model_config = STRICT

    kind: PolicyGradientKind
    """Make well-rewarded answers more likely: `grpo`, `dr_grpo`, `dapo`, `gspo`, `cispo`, `rloo`, `reinforce`,
    `reinforce_pp` compare answers with each other, `ppo` with a critic. Each sets what the keys below leave null."""
    advantage: (
        Literal["grpo", "dr_grpo", "rloo", "reinforce", "reinforce_pp", "reinforce_pp_baseline", "opo"] | None
    ) = None
    """How an answer's reward becomes its advantage; null: as `kind` says. Not for ppo, whose critic says it."""
    clip: Literal["ppo", "dual", "two_sided", "none"] | None = None
    """How the probability ratio of a token is bounded, for rloo and ppo; null: as `kind` says."""
    clip_low: NotNegative | None = None
    """How far below 1 that ratio counts; null: as `kind` says."""
    clip_high: NotNegative | None = None
    """How far above 1 it counts; larger than clip_low lets rare good tokens grow (clip-higher)."""
    ratio: Literal["sequence", "sequence_token"] | None = None
    """One ratio for a whole answer, or its value with each token's own gradient, for gspo; null: sequence."""
    aggregation: Literal["sequence", "token"] | None = None
    """What weighs the same, for grpo: every answer however long, or every token of the step; null: sequence."""
    top_entropy: Share | None = None
    """Share of each answer's tokens, those of highest entropy, that are learned from; null: all."""
    truncation: Literal["token", "sequence", "masked"] | None = None
    """Makes up for a sampler whose arithmetic is not the trainer's: the policy loss is multiplied by trainer / sampler
    probability up to `truncation_cap`, of each `token`, of a whole answer (`sequence`), or of a whole answer that is
    left out beyond the cap (`masked`); null: not at all."""
    truncation_cap: Annotated[float, Field(gt=1)] | None = None
    """Where that weight is cut off; null: 2."""
    kl_weight: NotNegative = 0.0
    """Weight in the loss of the KL divergence to the reference; 0 needs no reference."""
    kl_estimator: Literal["k1", "k2", "k3", "k3+"] | None = None
    """How that divergence is estimated from sampled tokens; null: as `kind` says."""
    kl_in_reward: NotNegative = 0.0
    """Taken off the reward of every token: this times its log-ratio to the reference (k1)."""
    kl_target: Positive | None = None
    """KL to the reference per token that the weight above is steered to, from rollout to rollout; null leaves it."""
    kl_horizon: Count = 10_000
    """Answers over which the weight follows kl_target: smaller follows faster."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus; above 0 keeps answers diverse."""
    discount: Share = 1.0
    """Of rewards that lie further ahead, for ppo and reinforce_pp."""
    gae_lambda: Share = 1.0
    """Between trusting the critic (0) and the reward alone (1), for ppo. Below 1 a critic that knows little lets
    answers grow shorter."""
    value_weight: Positive | None = None
    """Weight of the critic's loss, for ppo; null: 0.1."""
    value_clip: Positive | None = None
    """How far a value may move in one rollout before its loss stops pulling, in spreads of the first rollout's
    rewards, for ppo; null: any distance."""

    @model_validator(mode="after")
    def _taken(self) -> "PolicyGradient":
        if self.truncation_cap is not None and self.truncation is None:
            raise ValueError("truncation_cap goes with truncation; give that too, or remove it")
        for key, kinds in TAKEN_BY.items():
            if vars(self)[key] is not None and self.kind not in kinds:
                raise ValueError(f"{key} is not read by kind {self.kind}, only by {', '.join(kinds)}; remove it")
        return self


class RewardEntry(BaseModel):
    """One reward of a run."""

    model_config = STRICT

    name: str
    """A built-in reward (`sightline reward list`), or your own as module:function."""
    label: str | None = None
    """Name in metrics, when one reward is used twice; null: its name."""
    weight: float = 1.0
    """Weight in the sum."""
    options: dict[str, Any] = {}
    """Its options; each may be a schedule (docs/rewards.md: steps, ramp, skill)."""
    clip: tuple[float, float] | None = None
    """Bounds of its value, before the weight."""
    gate: float | None = None
    """Where its value is below this, nothing that the answer earned counts; what it lost stays."""
    optional: bool = False
    """Whether an answer still counts on which this reward has no opinion."""
    tasks: tuple[str, ...] = ()
    """Names in `prompt.task` of the prompts that it is asked about, for data of several tasks; empty: all."""
    at: Literal["end", "sentence"] = "end"
    """Where ppo and reinforce_pp lay it: where the reward says, else on the last token; or on the end of every sentence
    what that sentence added."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        check_name("reward", value)
        return value


class Rollout(BaseModel):
    """How answers are sampled and judged."""

    model_config = STRICT

    group_size: Count = 8
    """Answers to each prompt."""
    prompts: Count | None = None
    """Prompts in a rollout; a multiple of train.groups_per_step gives several updates; null: just as many."""
    passes: Count = 1
    """Times that a rollout is learned from."""
    max_tokens: Count = 256
    """Answers are cut here."""
    temperature: Positive = 1.0
    """Of sampling, and of the distribution that is trained."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer, besides the end of the turn."""
    prompts_at_once: Count = 64
    """Prompts sampled together: memory follows it."""
    max_refills: Whole = 0
    """Rounds in which prompts whose answers are all worth the same are replaced (dynamic sampling); 0 keeps them."""
    difficulty: tuple[float, float] | None = None
    """Groups whose mean reward lies outside these bounds are replaced or left out."""
    drop_cut: bool = False
    """Leave answers that were cut at max_tokens out of the update (overlong filtering)."""
    samples: Whole = 2
    """Groups of a rollout that go to rollouts.jsonl, with pictures, rewards and advantages: of the first three rollouts
    and, evenly, of at most 21 more; 0 for none."""
    combine: Literal["sum", "normalise_then_sum"] = "sum"
    """Whether rewards are added as they are, or each is first normalised within its group."""
    pairs: Literal["best_worst", "all"] = "best_worst"
    """Which answers to a prompt a preference loss (dpo with rewards) compares: the best and the worst, or every two."""
    reward_workers: Whole = 1
    """Processes that judge answers beside the model; 0 judges in the run's own process, without a time limit."""
    reward_timeout: Positive = 10.0
    """Seconds that one reward may take for one answer."""
    on_reward_error: Literal["exclude", "zero", "stop"] = "exclude"
    """What an answer is worth whose reward raised, hung or gave NaN: left out, zero, or the run stops."""


class Critic(BaseModel):
    """Who values the states before each token."""

    model_config = STRICT

    separate: bool = False
    """Give the critic weights of its own: adapters where the policy trains adapters, else a language model; false: it
    reads the policy's hidden states."""
    learning_rate: Positive | None = None
    """Peak learning rate of the value head (and of a separate critic); null: ten times the policy's."""
    warmup_steps: Whole = 0
    """First updates in which answers have no advantages yet: of the losses, the critic's alone teaches."""


class Monitors(BaseModel):
    """What is watched while a run learns; null switches a signal off."""

    model_config = STRICT

    action: Literal["stop", "warn", "off"] = "stop"
    """What happens when a signal stays beyond its bound: the run stops and says why, or goes on after a warning."""
    held_out: tuple[RewardEntry, ...] = ()
    """Rewards that measure greedy answers and are never learned from; empty: what fits each prompt's truth (the exact
    answer, F1 of boxes, objects named against invented and missed)."""
    held_out_prompts: Whole = 64
    """Prompts whose answers are measured so, of the validation files or else of the data; 0 for none."""
    patience: Count = 8
    """Updates (or rollouts) in a row beyond the bound before something happens."""
    held_out_fall: Positive | None = 0.05
    """How far the held-out measure may fall below its best, chance aside, while the reward is at its height or the
    training loss goes on falling: the sign of hacking; two evaluations in a row."""
    overfit: Positive | None = 0.05
    """Share by which the validation loss may rise above its best while the training loss falls; two evaluations in a
    row end the run early, as done."""
    accuracy_gap: Share | None = 0.35
    """How much more often pairs may be ranked right that were trained on than validation pairs or, without them, than
    the pairs of the first epoch when they were new; beyond it they are learned by heart, and the run ends early."""
    displacement: Positive | None = 0.3
    """Nats per token that chosen answers may lose against the reference: beyond it they become unlikely too."""
    duplicates: Share | None = 0.5
    """Share of rows that repeat an earlier row, nearly or word for word: above it the run does not start."""
    repeated_prompt: Share | None = 0.5
    """Share of rows (of 16 or more) with one and the same prompt: above it the run does not start."""
    problems: Share | None = 0.5
    """Share of answers on which a reward failed: above it, what is learned is chance."""
    without_signal: Share | None = 0.95
    """Share of groups whose answers are all worth the same: above it there is hardly anything to learn from."""
    distinct: Share | None = 0.15
    """Share of different answers in a group: below it the policy has narrowed to one answer."""
    repetition: Share | None = 0.5
    """Share of word triples in an answer that were there before: above it answers circle."""
    length_growth: Positive | None = 2.5
    """Mean length over that of the first rollouts: above it answers grow without need."""
    boxes_per_object: Positive | None = 2.0
    """Boxes in answers over boxes in truth: above it boxes are sprayed."""
    kl: Positive | None = 1.0
    """KL divergence per token from the policy before training (kl/start): above it the policy has left its start.
    Not for sft, which means to leave it."""
    grad_norm_spike: Positive | None = 50.0
    """Gradient norm over its running median: above it an update is a jump (counted one by one, without patience)."""
    reward_collapse: Positive | None = 4.0
    """How many spreads (of the best stretch) the mean reward may fall below its best stretch."""
