"""A reward that keeps the pictures it is shown."""

import numpy
import PIL.Image

from sightline.records import Completion
from sightline.rewards.contract import RewardContext

SEEN: list[PIL.Image.Image] = []


def area(completion: Completion, context: RewardContext) -> float:
    assert context.load_image is not None
    SEEN.append(context.load_image())
    return float(numpy.prod(SEEN[-1].size))
