"""Pure maths on tensors: what a loss is, in totals and counts. Knows no model, no reward, no sampling.

Importing the room registers its objectives.
"""

from sightline.objectives import imitation, preference, reinforcement

__all__ = ["imitation", "preference", "reinforcement"]
