"""What evaluation asks of a task: how long answers may be, how one is scored, and where the true boxes are.

The tasks themselves live where their truth is made (world/); evaluation knows none of them by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sightline.rewards.boxes import LabelledBox

Scores = Mapping[str, tuple[float, float]]
"""Metric -> (numerator, denominator) of one answer."""


class EvaluationTask(Protocol):
    """A kind of question whose answers can be scored."""

    @property
    def name(self) -> str:
        """Registered name."""
        ...

    @property
    def max_tokens(self) -> int:
        """Answers are cut here."""
        ...

    @property
    def score(self) -> Callable[[str, Mapping[str, Any]], Scores]:
        """Scores of an answer given the question's truth."""
        ...

    @property
    def true_boxes(self) -> Callable[[Mapping[str, Any]], Sequence[LabelledBox]] | None:
        """For detection: the true boxes of a question in the frame that answers speak in."""
        ...
