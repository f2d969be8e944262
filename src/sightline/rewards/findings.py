"""What probing a reward found: how every attack fared, by kind of truth, and the verdict.

Records alone; `probes` fills them in, and the command line shows them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """How one attack fared over all cases. Example: `Attack(name="empty", median=0.0, margin=-2.7, ...)`."""

    name: str
    """What it does."""
    median: float | None
    """Median of its scores; None where it has none."""
    worst: float | None
    """Its score in the case in which it comes closest to the honest answer, or passes it by most."""
    honest: float | None
    """What the honest answer scores in that case."""
    example: str
    """The attack in that case, cut short."""
    num_judged: int
    """Cases in which it was judged."""
    num_failed: int
    """Cases in which it scored at least what the honest answer scores."""
    num_exempt: int
    """Cases in which it is the truth."""
    problem: str | None = None
    """What the reward did in place of giving a number."""
    stage: str = ""
    """The stage of the run of `worst`, `honest`, `median` and `example`: its progress, and what is scheduled."""
    wins_at: tuple[str, ...] = ()
    """The stages at which it scored at least what the honest answer scores, or at which the reward broke on it."""

    @property
    def verdict(self) -> str:
        """below, at least, problem, exempt or no opinion."""
        if self.problem is not None:
            return "problem"
        if self.num_failed:
            return "at least"
        if self.worst is not None:
            return "below"
        return "exempt" if self.num_exempt else "no opinion"

    @property
    def failed(self) -> bool:
        """Whether the reward fell for it, or broke on it."""
        return self.verdict in ("problem", "at least")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProbed:
    """What answers that deserve marks earn at one stage. Example: `StageProbed(name="0.5", right=3.0, honest=2.1)`."""

    name: str
    """The stage: its progress, and what is scheduled."""
    right: float
    """Median score of the right answers."""
    honest: float
    """Median score of the honest answers."""
    form: float | None = None
    """The best median of an answer without content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindProbed:
    """All attacks on one kind of truth. Example: `KindProbed(truth="count", dress="bare", right=1.0, ...)`."""

    truth: str
    """The kind: boxes, count, ..."""
    dress: str
    """What stood around every answer."""
    stages: tuple[StageProbed, ...]
    """What was tried of the course of a run, in its order; at least one stage."""
    num_cases: int
    """Cases in which it gave an opinion."""
    num_blind: int
    """Cases in which the right answer earned no more than any attack, at the stage where these are most."""
    attacks: tuple[Attack, ...]
    """All attacks, in their order."""

    @property
    def right(self) -> float:
        """Median score of the right answers at the first stage."""
        return self.stages[0].right

    @property
    def honest(self) -> float:
        """Median score of the honest answers at the first stage."""
        return self.stages[0].honest

    @property
    def closest(self) -> Attack | None:
        """The attack that comes closest to the honest answer, or passes it by most."""
        judged = [attack for attack in self.attacks if attack.worst is not None]
        return max(judged, key=lambda attack: (attack.worst or 0.0) - (attack.honest or 0.0), default=None)

    @property
    def form_is_enough(self) -> bool:
        """Whether at some stage the honest answer earns no more than an empty form."""
        return any(stage.form is not None and stage.form >= stage.honest for stage in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What probing a reward showed. Example: `Probed(reward="count", cases=16, seed=0, kinds=(...), ...)`."""

    reward: str
    """Its name."""
    options: Mapping[str, Any]
    """Its options."""
    beside: str | None
    """The reward that it was added to, for one that reads no truth."""
    cases: int
    """Cases of each kind."""
    seed: int
    """What they were drawn with."""
    kinds: tuple[KindProbed, ...]
    """What was probed."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Kinds of truth that were not probed, with the reason."""

    @property
    def passed(self) -> bool:
        """Whether something was probed, the reward reads it, and no attack succeeded."""
        good = [not kind.num_blind and not any(attack.failed for attack in kind.attacks) for kind in self.kinds]
        return bool(good) and all(good)


def as_plain(probed: Probed) -> dict[str, Any]:
    """Everything as plain JSON values, verdicts included."""
    kinds = [
        asdict(kind)
        | {"right": kind.right, "honest": kind.honest}
        | {"attacks": [asdict(attack) | {"verdict": attack.verdict} for attack in kind.attacks]}
        for kind in probed.kinds
    ]
    return {"passed": probed.passed} | asdict(probed) | {"kinds": kinds}
