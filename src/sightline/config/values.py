"""Kinds of numbers in a recipe, and how strictly its blocks are read."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"is {str(value).lower()}; give a number")
    return value


_Number = BeforeValidator(_no_truth_value)
Count = Annotated[int, Field(gt=0), _Number]
Whole = Annotated[int, Field(ge=0), _Number]
Positive = Annotated[float, Field(gt=0), _Number]
NotNegative = Annotated[float, Field(ge=0), _Number]
Share = Annotated[float, Field(ge=0, le=1), _Number]
BelowOne = Annotated[float, Field(ge=0, lt=1), _Number]
BelowHalf = Annotated[float, Field(ge=0, lt=0.5), _Number]


def check_pattern(name: str, pattern: str | None) -> None:
    """ValueError for what is no regular expression, or has several groups: its one group is what is meant."""
    try:
        groups = re.compile(pattern or "").groups
    except re.error as error:
        raise ValueError(f"{name} is no regular expression ({error}); correct it") from error
    if groups > 1:
        raise ValueError(f"{name} has several groups; give one, or write (?:...) for the others")
