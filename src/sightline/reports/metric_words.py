"""What a metric is called on a page, and in which unit it is counted, so that no chart mixes units.

Knows the names of docs/metrics.md; another metric keeps its own words and counts as a unit of its group. The
definitions stay in that page: here stand titles.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """How a metric stands on a page.

    Example: `shown("rollout/cut")` is `Shown(title="answers cut at the limit", unit="share")`.
    """

    title: str
    """In words."""
    unit: str
    """Metrics of one unit may share axes."""


GROUPS = {
    "reward": "Reward",
    "validation": "Held out",
    "rollout": "Sampled answers",
    "policy": "Policy",
    "loss": "Loss",
    "kl": "Distance from the reference",
    "value": "Critic",
    "optim": "Optimiser",
    "batch": "Batch",
    "time": "Time",
    "curriculum": "Rules on schedule",
    "rating": "Reward model",
}
_KNOWN = {
    "reward/mean": ("mean reward", "reward"),
    "reward/std_in_group": ("spread within a group", "reward"),
    "reward/chosen": ("implicit reward, chosen", "nats"),
    "reward/rejected": ("implicit reward, rejected", "nats"),
    "reward/margin": ("margin, chosen less rejected", "nats"),
    "reward/accuracy": ("pairs ranked right", "share"),
    "held_out": ("held-out measure", "held-out measure"),
    "policy/ratio": ("probability ratio to the sampling policy", "ratio"),
    "policy/entropy": ("entropy of a token", "nats"),
    "policy/clip_share_low": ("tokens held by the lower clip", "share"),
    "policy/clip_share_high": ("tokens held by the upper clip", "share"),
    "policy/kl_behaviour": ("KL to the sampling policy (k3)", "nats"),
    "policy/kl_behaviour_k1": ("KL to the sampling policy (k1)", "nats"),
    "policy/token_logprob": ("log-probability of a token", "nats"),
    "policy/chosen_logprob": ("log-probability, chosen answer", "nats"),
    "policy/rejected_logprob": ("log-probability, rejected answer", "nats"),
    "kl/start": ("KL from before training, per token", "nats"),
    "policy/chosen_shift": ("chosen answers against the reference, per token", "nats"),
    "kl/reference": ("KL to the reference, per token", "nats"),
    "kl/weight_factor": ("factor on the weight of the KL", "factor"),
    "loss/total": ("all terms together", "loss"),
    "loss/dpo": ("DPO", "loss"),
    "loss/sft": ("imitation", "loss"),
    "loss/nll": ("likelihood anchor", "loss"),
    "loss/policy": ("policy gradient", "loss"),
    "loss/kl": ("KL to the reference", "loss"),
    "loss/value": ("critic", "loss"),
    "loss/entropy": ("entropy", "loss"),
    "loss/ranking": ("ranking", "loss"),
    "loss/centring": ("ratings around 0", "loss"),
    "loss/length": ("ratings by length", "loss"),
    "rollout/length": ("tokens of an answer", "tokens"),
    "rollout/cut": ("answers cut at the limit", "share"),
    "rollout/entropy": ("entropy of a sampled token", "nats"),
    "rollout/repetition": ("repeated word triples", "share"),
    "rollout/distinct": ("different answers in a group", "share"),
    "rollout/without_signal": ("groups that teach nothing", "share"),
    "rollout/excluded": ("answers without a reward", "share"),
    "rollout/problems": ("answers on which a reward failed", "share"),
    "rollout/prompts_sampled": ("prompts sampled", "prompts"),
    "rollout/boxes_per_object": ("boxes per true box", "boxes"),
    "optim/grad_norm": ("gradient norm", "norm"),
    "optim/learning_rate": ("learning rate", "rate"),
    "optim/skipped": ("updates skipped", "share"),
    "rating/accuracy": ("comparisons ranked right", "share"),
    "rating/margin": ("margin of ratings", "rating"),
    "value/explained": ("variance of returns explained", "share"),
    "batch/tokens": ("tokens read in an update", "tokens"),
    "time/step_seconds": ("a whole update", "seconds"),
    "time/model_seconds": ("forward and backward", "seconds"),
    "time/sample_seconds": ("sampling", "seconds"),
    "time/judge_seconds": ("waiting for rewards", "seconds"),
    "time/credit_seconds": ("reference and critic", "seconds"),
    "time/outside_model": ("share outside the model", "share"),
    "time/tokens_per_second": ("tokens a second", "tokens a second"),
}
_UNITS = (("_seconds", "seconds"), ("_share", "share"), ("accuracy", "share"), ("_tokens", "tokens"))


def shown(metric: str) -> Shown:
    """Title and unit of a metric; what this page does not know is written as it is named, without its group."""
    inner = metric.removeprefix("validation/")
    group, _, rest = inner.partition("/")
    known = _KNOWN.get(inner)
    if known is None:
        unit = next((unit for ending, unit in _UNITS if inner.endswith(ending)), group)
        known = ((rest or group).replace("_", " "), unit)
    title, unit = known
    return Shown(title=title, unit=unit)


def group_title(group: str) -> str:
    """A group of metrics in words."""
    return GROUPS.get(group, group)
