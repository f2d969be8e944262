"""What a rollout is made with: whoever samples, judges, scores and gives credit, as the feed sees them.

Knows only the shapes of these functions. Which model, reward or advantage stands behind them is said where a run is put
together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from sightline.batch import Batch, PromptTokens
from sightline.records import Completion, Prompt
from sightline.rewards.contract import Judged

Facts = dict[str, float]


class Sample(Protocol):
    """Answers of the policy as it stands."""

    def __call__(self, prompts: Sequence[PromptTokens], *, num: int, seed: int) -> list[tuple[Completion, ...]]:
        """`num` answers to each prompt; the seed alone decides what is drawn."""
        ...


class Judge(Protocol):
    """Rewards for answers, with whatever they keep between rollouts."""

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[tuple[Completion, ...]], *, progress: float
    ) -> list[tuple[Judged, ...]]:
        """What the rewards say of every answer."""
        ...

    def observe(self, judged: Sequence[tuple[Judged, ...]]) -> None:
        """Take notice of what was said of the answers of all processes; rules may follow it."""
        ...

    def facts(self, progress: float) -> Facts:
        """What is worth logging about the rules in force."""
        ...

    def state(self) -> dict[str, Any]:
        """What is kept, as plain JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        ...


Score = Callable[[Batch], Mapping[str, Tensor]]
"""Columns [N, T] by name of what the policy says, as it stands, of the answers of one update."""


class Credit(Protocol):
    """Gives answers their advantages, with whatever it keeps between rollouts."""

    def __call__(self, batch: Batch, judged: Sequence[Judged], scorable: Tensor) -> Batch:
        """The batch with a column "advantages", and what else the objective reads; `scorable` [N] takes part."""
        ...

    def facts(self) -> Facts:
        """What is worth logging of how credit was given."""
        ...

    def state(self) -> dict[str, Any]:
        """What is kept, as plain JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        ...
