"""Rewards for the shape of an answer: its format, its length, its repetitions. None of them reads the truth.

They say nothing about being right, so each is easy to satisfy with nonsense: use them inside `compose`, beside a reward
that looks at the picture. Knows nothing of tokenizers; tokens are counted where the answer brings them.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from sightline.records import Completion
from sightline.registry import did_you_mean, register
from sightline.rewards.answers import NUMBER, answer_span
from sightline.rewards.boxes import MAX_ANSWER_CHARACTERS, read_boxes
from sightline.rewards.contract import RewardContext

LONGEST_WORD = 20
TEMPLATES: dict[str, Callable[[str], bool]] = {
    "json_boxes": lambda text: read_boxes(text).well_formed,
    "answer_tag": lambda text: text.startswith("<answer>") and answer_span(text, "answer_tag") != "",
    "number": lambda text: NUMBER.fullmatch(text) is not None,
    "yes_no": lambda text: text.lower() in ("yes", "no", "yes.", "no."),
    "choice": lambda text: re.fullmatch(r"\([A-Z]\)|[A-Z][.)]?", text) is not None,
}


@register("reward", "format")
def format_match(
    completion: Completion,
    context: RewardContext,
    *,
    template: str = "json_boxes",
    pattern: str | None = None,
    max_characters: int = MAX_ANSWER_CHARACTERS,
) -> float:
    """1 when the whole answer has the form: a template, or in its place a regular expression of yours.

    Templates: json_boxes (a JSON list of {bbox_2d, label}, bare or in a ```json fence), answer_tag
    (<answer>...</answer> and nothing else), number, yes_no, choice. A `pattern` must match from the first character
    to the last; its speed is its author's care (no repetition inside a repetition). Longer answers than
    `max_characters` have no form.
    """
    matches = _template(template) if pattern is None else _pattern(pattern).fullmatch
    text = completion.text.strip()
    return float(0 < len(text) <= max_characters and bool(matches(text)))


@register("reward", "think_answer")
def think_answer(completion: Completion, context: RewardContext) -> float:
    """1 for <think>...</think><answer>...</answer> with words in both, each tag once, and nothing else around."""
    text = completion.text.strip()
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    if len(text) > MAX_ANSWER_CHARACTERS or any(text.count(tag) != 1 for tag in tags):
        return 0.0
    thought, _, rest = text.removeprefix("<think>").partition("</think>")
    answer = rest.strip().removeprefix("<answer>").removesuffix("</answer>")
    thinks, left = any(character.isalnum() for character in thought), thought + answer
    return float(thinks and answer.strip() != "" and not any(tag in left for tag in tags))


@register("reward", "length")
def length(
    completion: Completion, context: RewardContext, *, low: int = 1, high: int = 256, falloff: int = 64
) -> float:
    """1 from `low` to `high` tokens (words, where an answer brings no tokens), falling to 0 over `falloff` outside."""
    if not 0 < low <= high or falloff < 0:
        raise ValueError(f"low {low}, high {high}, falloff {falloff}: give 0 < low <= high and a falloff from 0")
    if not completion.text.strip():
        return 0.0
    tokens = completion.token_ids
    size = len(completion.text.split()) if tokens is None else len(tokens)
    outside = max(low - size, size - high, 0)
    return max(0.0, 1 - outside / falloff) if outside and falloff else float(outside == 0)


@register("reward", "overlong")
def overlong(completion: Completion, context: RewardContext, *, cache: int | None = None) -> float:
    """Soft overlong punishment (DAPO, Yu et al. 2025, eq. 13): 0, then linear to -1 over the last `cache` tokens.

    The limit is where answers are cut; a cut answer gets -1. `cache` is a fifth of the limit unless given.
    """
    limit, tokens = context.max_tokens, completion.token_ids
    if limit is None or tokens is None:
        missing = "limit in tokens" if limit is None else "tokens of the answer"
        raise ValueError(f"overlong: the {missing} is not known here; use the reward length, which counts words")
    room = limit // 5 if cache is None else cache
    if not 0 <= room <= limit:
        raise ValueError(f"overlong: cache is {room} with answers of {limit} tokens; give 0 to {limit}")
    if completion.finish_reason == "length" or len(tokens) > limit:
        return -1.0
    return min(0.0, (limit - room - len(tokens)) / room) if room else 0.0


@register("reward", "repetition")
def repetition(completion: Completion, context: RewardContext, *, size: int = 3) -> float:
    """Less the share of repeated pieces: 0 when all differ, towards -1 when all are one.

    Pieces are the boxes (with labels) of an answer that is a JSON list of them, else runs of `size` words in lower
    case; a word of more than 20 characters, as in scripts without spaces, counts by character.
    """
    if size < 1:
        raise ValueError(f"size is {size}; give a number of words, 1 or more")
    text = completion.text[:MAX_ANSWER_CHARACTERS]
    answer = read_boxes(text)
    pieces: Sequence[Any] = answer.boxes if answer.well_formed else _runs(text.lower(), size)
    return len(set(pieces)) / len(pieces) - 1 if pieces else 0.0


def _template(name: str) -> Callable[[str], bool]:
    if name not in TEMPLATES:
        raise ValueError(f"format: template is {name!r}{did_you_mean(str(name), TEMPLATES)}")
    return TEMPLATES[name]


@lru_cache(maxsize=32)
def _pattern(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.DOTALL)
    except (re.error, RecursionError) as error:
        raise ValueError(f"format: pattern {pattern!r} is no regular expression ({error}); mend it") from error


def _runs(text: str, size: int) -> list[tuple[str, ...]]:
    words = [part for word in text.split() for part in ([word] if len(word) <= LONGEST_WORD else word)]
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
