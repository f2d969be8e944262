"""The published algorithms of reinforcement learning by name: each a setting of the one policy gradient.

An algorithm is this loss on its own advantages; `advantages` has the rule of the same kin. Options that one does not
offer are to be had from `policy_gradient_objective`.
"""

from sightline.objectives.objective import Objective
from sightline.objectives.policy_gradient import policy_gradient_objective
from sightline.objectives.surrogates import Truncation
from sightline.registry import register

MAX_LENGTH = 512


@register("objective", "grpo")
def grpo_objective(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregation: str = "sequence",
    kl_weight: float = 0.0,
    kl_estimator: str = "k3",
    entropy_weight: float = 0.0,
    top_entropy: float | None = None,
    truncation: Truncation | None = None,
) -> Objective:
    """GRPO (Shao et al. 2024): clipped ratios, mean per answer, KL to the reference in the loss.

    The paper's `kl_weight` is 0.04; at 0, as most do now, no reference is needed. Advantages "grpo".
    """
    return policy_gradient_objective(
        kind="grpo",
        clip_low=clip_low,
        clip_high=clip_high,
        aggregation=aggregation,
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        top_entropy=top_entropy,
        truncation=truncation,
    )


@register("objective", "dr_grpo")
def dr_grpo_objective(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    max_length: int = MAX_LENGTH,
    kl_weight: float = 0.0,
    kl_estimator: str = "k3",
    entropy_weight: float = 0.0,
    top_entropy: float | None = None,
    truncation: Truncation | None = None,
) -> Objective:
    """Dr. GRPO (Liu et al. 2025): GRPO without its length bias, a sum over tokens over a constant.

    `max_length` is the sampler's token limit; it scales the loss and does nothing else. Advantages "dr_grpo".
    """
    return policy_gradient_objective(
        kind="dr_grpo",
        clip_low=clip_low,
        clip_high=clip_high,
        aggregation="constant",
        max_length=max_length,
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        top_entropy=top_entropy,
        truncation=truncation,
    )


@register("objective", "dapo")
def dapo_objective(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    kl_weight: float = 0.0,
    kl_estimator: str = "k3",
    entropy_weight: float = 0.0,
    top_entropy: float | None = None,
    truncation: Truncation | None = None,
) -> Objective:
    """DAPO (Yu et al. 2025): a wider upper clip, mean over all tokens of the step, no KL. Advantages "grpo".

    Dynamic sampling and overlong shaping, the rest of DAPO, are the rollout's business.
    """
    return policy_gradient_objective(
        kind="dapo",
        clip_low=clip_low,
        clip_high=clip_high,
        aggregation="token",
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        top_entropy=top_entropy,
        truncation=truncation,
    )


@register("objective", "gspo")
def gspo_objective(
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    ratio: str = "sequence",
    kl_weight: float = 0.0,
    kl_estimator: str = "k3",
    entropy_weight: float = 0.0,
    truncation: Truncation | None = None,
) -> Objective:
    """GSPO (Zheng et al. 2025): one ratio per answer, the geometric mean of its tokens', hence the narrow clip.

    `ratio="sequence_token"` is GSPO-token, for one advantage per token. Advantages "grpo".
    """
    return policy_gradient_objective(
        kind="gspo",
        clip_low=clip_low,
        clip_high=clip_high,
        ratio=ratio,
        aggregation="sequence",
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        truncation=truncation,
    )


@register("objective", "cispo")
def cispo_objective(
    *,
    clip_high: float = 4.0,
    kl_weight: float = 0.0,
    kl_estimator: str = "k3",
    entropy_weight: float = 0.0,
    top_entropy: float | None = None,
    truncation: Truncation | None = None,
) -> Objective:
    """CISPO (MiniMax-M1, 2025): log-probs weighted by ratios capped at 1 + clip_high; no token loses its gradient.

    The default cap of 5 is that of ScaleRL. Mean over all tokens of the step. Advantages "grpo".
    """
    return policy_gradient_objective(
        kind="cispo",
        clip="cispo",
        clip_high=clip_high,
        aggregation="token",
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        top_entropy=top_entropy,
        truncation=truncation,
    )


@register("objective", "rloo")
def rloo_objective(
    *,
    clip: str = "none",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    max_length: int = MAX_LENGTH,
    kl_weight: float = 0.0,
    kl_estimator: str = "k2",
    entropy_weight: float = 0.0,
    truncation: Truncation | None = None,
) -> Objective:
    """RLOO (Ahmadian et al. 2024): plain REINFORCE, an answer being one action; advantages "rloo".

    The paper has its KL in the reward. With several updates per rollout set `clip` to "ppo". `max_length` scales the
    loss; 1 is the paper's plain sum over tokens.
    """
    return policy_gradient_objective(
        kind="rloo",
        clip=clip,
        clip_low=clip_low,
        clip_high=clip_high,
        aggregation="constant",
        max_length=max_length,
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        truncation=truncation,
    )


@register("objective", "reinforce")
def reinforce_objective(
    *,
    max_length: int = MAX_LENGTH,
    kl_weight: float = 0.0,
    kl_estimator: str = "k2",
    entropy_weight: float = 0.0,
    truncation: Truncation | None = None,
) -> Objective:
    """REINFORCE (Williams 1992), for one update per rollout; advantages "reinforce", with a moving baseline.

    `max_length` scales the loss; 1 is the plain sum over tokens.
    """
    return policy_gradient_objective(
        kind="reinforce",
        clip="none",
        aggregation="constant",
        max_length=max_length,
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        truncation=truncation,
    )


@register("objective", "reinforce_pp")
def reinforce_pp_objective(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_weight: float = 0.0,
    kl_estimator: str = "k2",
    entropy_weight: float = 0.0,
    truncation: Truncation | None = None,
) -> Objective:
    """REINFORCE++ (Hu 2025): PPO's clip without a critic, mean over all tokens of the step.

    Advantages "reinforce_pp" or "reinforce_pp_baseline", or whitened returns per token with the KL in the reward.
    """
    return policy_gradient_objective(
        kind="reinforce_pp",
        clip_low=clip_low,
        clip_high=clip_high,
        aggregation="token",
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        truncation=truncation,
    )


@register("objective", "ppo")
def ppo_objective(  # noqa: PLR0913 - each is a dial of the paper or of its critic
    *,
    clip: str = "ppo",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    value_weight: float = 0.1,
    value_clip: float | None = None,
    entropy_weight: float = 0.0,
    kl_weight: float = 0.0,
    kl_estimator: str = "k2",
    truncation: Truncation | None = None,
) -> Objective:
    """PPO (Schulman et al. 2017) with a critic: one advantage per token, from `values.gae`, best whitened.

    KL is usually in the reward. Values may move freely: clipping them is in the released code, not in the paper, and
    did not help in Andrychowicz et al. 2021. `clip` may be "dual" or "two_sided", at a ratio of 3 and 4 for bad tokens.
    """
    return policy_gradient_objective(
        kind="ppo",
        clip=clip,
        clip_low=clip_low,
        clip_high=clip_high,
        aggregation="token",
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
        value_clip=value_clip,
        truncation=truncation,
    )
