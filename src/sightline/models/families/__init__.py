"""The model families that are held to their plain twin, one entry each.

Everything else in this room is written against `Family`. A new family is one entry here and one row in the contract
test. What is not listed is refused by name, never run on a guess.
"""

from sightline.models.families.family import Family, Look
from sightline.models.families.gemma import GEMMA3, PALIGEMMA
from sightline.models.families.llava import LLAVA, LLAVA_ONEVISION
from sightline.models.families.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL
from sightline.models.families.tiles import IDEFICS3, INTERNVL, SMOLVLM

FAMILIES = (
    LLAVA,
    LLAVA_ONEVISION,
    QWEN2_VL,
    QWEN2_5_VL,
    QWEN3_VL,
    IDEFICS3,
    SMOLVLM,
    GEMMA3,
    INTERNVL,
    PALIGEMMA,
)

__all__ = ["FAMILIES", "LLAVA", "Family", "Look", "family_of"]


def family_of(model_type: str) -> Family:
    """The family of a model type; what is not known is refused with what is."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(t for family in FAMILIES for t in family.model_types)
    raise ValueError(
        f"models of type {model_type!r} are not supported by this version, which would have to guess how their prompt "
        f"and images are laid out; supported are: {known}"
    )
