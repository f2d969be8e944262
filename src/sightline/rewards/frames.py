"""Which frame the boxes of some answers are in: boxes read in the wrong one are wrong and look like a bad model.

Knows no reward: it tries every frame on answers whose truth has boxes, and says which fits.
"""

from collections.abc import Sequence

from sightline.records import Completion
from sightline.rewards.boxes import SPACES, Space, match_boxes, read_boxes, to_frame, true_boxes
from sightline.rewards.contract import RewardContext

CLEARLY = 0.2
"""Mean overlap by which another frame must be better before it is named."""


def mean_overlaps(answers: Sequence[tuple[Completion, RewardContext]]) -> dict[Space, float]:
    """Mean IoU of true boxes with what answers say of them, labels aside, for every frame that can be tried."""
    totals = dict.fromkeys(SPACES, 0.0)
    num_true = 0
    for completion, context in answers:
        true, said = true_boxes(context.truth), read_boxes(completion.text)
        if not true or context.image_size is None:
            continue
        num_true += len(true)
        for space in SPACES:
            moved = to_frame(
                [box.box for box in said.boxes], space, image_size=context.image_size, seen_size=context.seen_size
            )
            given = [type(box)(label="", box=corners) for box, corners in zip(said.boxes, moved, strict=True)]
            plain = [type(box)(label="", box=box.box) for box in true]
            totals[space] += sum(overlap for _, _, overlap in match_boxes(given, plain))
    return {space: total / num_true for space, total in totals.items()} if num_true else {}


def better_frame(answers: Sequence[tuple[Completion, RewardContext]], space: Space) -> str | None:
    """A sentence when another frame than `space` fits the answers far better; else None."""
    found = mean_overlaps(answers)
    if not found:
        return None
    best = max(found, key=lambda name: found[name])
    if found[best] < found[space] + CLEARLY:
        return None
    return (
        f"the boxes of the answers overlap the true ones by {found[space]:.2f} when read as {space}, and by "
        f"{found[best]:.2f} when read as {best}; set the reward's option space to {best}"
    )
