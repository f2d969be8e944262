"""How much work a call is, counted, never timed: lines of Python that it runs.

A clock on a busy machine says more about its neighbours than about the code. What C code does within a line (a regular
expression, a product) is not seen; a search that backtracks without end meets pytest's timeout.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


def counted(call: Callable[[], Result]) -> tuple[Result, int]:
    """What the call returns, and how many lines of Python it ran."""
    lines = 0

    def trace(_frame: FrameType, event: str, _value: Any):
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = call()
    finally:
        sys.settrace(before)
    return result, lines
