"""Where two sources of signals speak of the same answers: how often do they prefer the same one?"""

from collections.abc import Iterable, Mapping
from itertools import combinations

from sightline.records import Label, Pair, Rank, Reward, Signal
from sightline.rewards.judges.contract import OVERALL

Preferences = Mapping[tuple[int, int], float]
"""For two answers (lower number first): above 0 where the first is preferred, below 0 where the second is; no ties."""


def sources_of(signals: Iterable[Signal]) -> list[str]:
    """Who speaks, in order of appearance; signals without a source are "unnamed"."""
    return list(dict.fromkeys(signal.source or "unnamed" for signal in signals))


def preferences(signals: Iterable[Signal], source: str) -> Preferences:
    """What one source prefers by its pairs, ranks, rewards and labels; overall where it says so, else by all aspects.

    Where signals of one source contradict each other, for different aspects say, it prefers neither.
    """
    own = [signal for signal in signals if (signal.source or "unnamed") == source]
    overall = [signal for signal in own if signal.aspect in (None, OVERALL)]
    found: dict[tuple[int, int], set[float]] = {}
    values: dict[tuple[str, str | None], dict[int, float]] = {}
    for signal in overall or own:
        match signal:
            case Pair(chosen=chosen, rejected=rejected, tie=tie):
                sign = 0.0 if tie else 1.0 if chosen < rejected else -1.0
                found.setdefault((min(chosen, rejected), max(chosen, rejected)), set()).add(sign)
            case Rank(ranks=ranks):
                values[signal.kind, signal.aspect] = {number: -float(rank) for number, rank in enumerate(ranks)}
            case Reward(completion=completion, value=value):
                values.setdefault((signal.kind, signal.aspect), {})[completion] = value
            case Label(completion=completion, good=good):
                values.setdefault((signal.kind, signal.aspect), {})[completion] = float(good)
            case _:
                pass
    for given in values.values():
        for one, other in combinations(sorted(given), 2):
            difference = given[one] - given[other]
            found.setdefault((one, other), set()).add(float(difference > 0) - float(difference < 0))
    return {pair: signs.pop() for pair, signs in found.items() if len(signs) == 1 and 0.0 not in signs}


def agreed(mine: Preferences, theirs: Preferences) -> tuple[int, int]:
    """Of the pairs on which both prefer one answer: how many they agree on, and how many there are."""
    both = mine.keys() & theirs.keys()
    return sum(mine[pair] == theirs[pair] for pair in both), len(both)
