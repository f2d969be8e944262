"""What is said of a step while a run goes on: loss or reward, and speed, in a few words."""

from collections.abc import Mapping


def facts(metrics: Mapping[str, float]) -> str:
    """Loss or reward, and speed, of the metrics of a step."""
    said = [f"loss {metrics['loss/total']:.4f}"]
    if "rollout/length" in metrics:
        said = [f"reward {metrics['reward/mean']:.3f}", f"{metrics['rollout/length']:.0f} tokens an answer"]
    if "reward/accuracy" in metrics:
        said.append(f"pairs right {metrics['reward/accuracy']:.0%}")
    if "validation/loss/total" in metrics:
        said.append(f"validation {metrics['validation/loss/total']:.4f}")
    return ", ".join([*said, f"{metrics['time/tokens_per_second']:,.0f} tokens/s"])
