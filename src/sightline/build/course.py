"""How one stage of the tiny models' upbringing is run: on which scenes, for how long, at which learning rate.

Shared by the vision-language model (upbringing.py) and the contrastive one (clip.py).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.progress import Say, phase
from sightline.world.scenes import Scene, draw, make_scene
from sightline.world.stages import Stage

LOG_EVERY = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One stage as it is run: how long, on which scenes, at which learning rate."""

    stage: Stage
    """What is taught."""
    num_steps: int
    """Updates; fewer than the stage's own in a scaled-down upbringing."""
    first_index: int
    """Index of its first training scene; no scene is shown twice."""
    seed: int
    """Of scenes and questions."""

    def scenes(self) -> Iterator[list[Scene]]:
        """The scenes of each update."""
        per_step = self.stage.scenes_per_step
        with phase(f"{self.stage.name}, step", self.num_steps, numbered=True) as steps:
            for step in range(self.num_steps):
                first = self.first_index + step * per_step
                plate = lambda i: ("card", "sign")[i % 2] if self.stage.plates else "any"  # noqa: E731
                yield [make_scene("train", i, seed=self.seed, plate=plate(i)) for i in range(first, first + per_step)]
                steps.advance()

    def rate(self, step: int) -> float:
        """Linear warm-up over at most 100 steps times a cosine from the peak to a fiftieth of it."""
        num_warmup = min(100, max(1, self.num_steps // 10))
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / self.num_steps))
        return self.stage.learning_rate * min(1, (step + 1) / num_warmup) * cosine

    def tell(self, step: int, loss: float, say: Say) -> None:
        """Every few steps a line."""
        if step % LOG_EVERY == 0 or step == self.num_steps - 1:
            say(f"{self.stage.name}: step {step + 1} of {self.num_steps}, loss {loss:.3f}")


def scene_pixels(image_processor: Any, scene: Scene) -> Tensor:
    """What a tower sees of a scene of the training canvas: the processor's arithmetic without its overhead."""
    picture = torch.from_numpy(draw(scene)).permute(2, 0, 1).float()
    mean, deviation = (torch.tensor(x)[:, None, None] for x in (image_processor.image_mean, image_processor.image_std))
    return (picture / 255 - mean) / deviation
