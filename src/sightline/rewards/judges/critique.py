"""A critique first, then a score: the judge argues before it decides, and its last line counts.

MM-RLHF's reward model conditions its score on a critique in the same way (Zhang et al. 2025, 2502.10391); here both
come in one reply, and the critique stays with the kept replies.
"""

from sightline.rewards.judges.contract import Aspect, Sampling
from sightline.rewards.judges.pointwise import NEEDS, TAKES, Pointwise
from sightline.rewards.judges.reading import last_score
from sightline.rewards.judges.templates import Template

__all__ = ["NEEDS", "TAKES", "critique"]


def critique(
    *,
    source: str,
    template: Template,
    aspects: tuple[Aspect, ...],
    sampling: Sampling,
    scale: tuple[int, int] = (0, 10),
    pairs: bool = True,
    min_margin: float = 0.0,
) -> Pointwise:
    """The protocol that reads "Score: N" in the last line, behind a critique."""
    return Pointwise(
        source=source,
        template=template,
        aspects=aspects,
        read=last_score(*scale),
        scale=scale,
        pairs=pairs,
        min_margin=min_margin,
        sampling=sampling,
    )
