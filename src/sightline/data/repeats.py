"""Rows that repeat each other: word for word, nearly, or by asking one and the same prompt.

A run on twenty-four copies of one pair learns that pair by heart, and its figures say that all is well. Two rows are
compared when they show the same pictures. Words are compared without case and punctuation; rows are nearly the same
when they share at least `NEAR` of their runs of three words, as estimated by min-hashing (Broder 1997). Knows neither
models nor what is done about it.
"""

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy

from sightline.records import Group, Image

NEAR = 0.85
"""Estimated share of runs of words in common from which a row nearly repeats another."""
NUM_HASHES, BAND = 64, 4
"""Values of a signature, and how many of them must agree in one place for two rows to be compared at all."""
RUN = 3
"""Words in a run."""
FEW = 16
"""Rows below which one prompt in most of them says nothing."""
MOST_COMPARED = 64
"""Rows of one bucket that a row is compared with."""
_WORDS = re.compile(r"\w+")
_PRIME = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """What repeats in some rows. Example: `Repeats(num_rows=24, copies=23, near=0, most_asked=24, example="...")`."""

    num_rows: int
    """Rows that were looked at."""
    copies: int
    """Rows whose pictures, words and signals are those of an earlier row."""
    near: int
    """Rows that repeat an earlier one nearly, copies apart."""
    most_asked: int
    """Rows with the most frequent prompt: the same pictures and words."""
    example: tuple[str, str] | None = None
    """Ids of the prompts of the first row that repeats another, and of that other."""

    @property
    def share(self) -> float:
        """Share of rows that repeat an earlier one."""
        return (self.copies + self.near) / max(1, self.num_rows)

    @property
    def share_of_one_prompt(self) -> float:
        """Share of rows with the most frequent prompt; 0 among few rows."""
        return self.most_asked / self.num_rows if self.num_rows >= FEW else 0.0

    def lines(self) -> list[str]:
        """What is worth saying, in words; empty where nothing repeats."""
        found = []
        if self.copies or self.near:
            assert self.example is not None
            first, other = self.example
            kinds = " and ".join(
                f"{num:,} {what}" for num, what in ((self.copies, "word for word"), (self.near, "nearly")) if num
            )
            found.append(
                f"{self.copies + self.near:,} of {self.num_rows:,} rows repeat an earlier row ({kinds}); "
                f"the first is prompt {first!r}, which repeats {other!r}"
            )
        if self.share_of_one_prompt > 0.1 and self.most_asked > 1:
            found.append(f"{self.most_asked:,} of {self.num_rows:,} rows have one and the same prompt")
        return found


NOTHING = Repeats(num_rows=0, copies=0, near=0, most_asked=0)


@dataclass(slots=True)
class Finder:
    """Takes rows one by one and counts what repeats; keeps a few numbers of each, never its words."""

    num_rows: int = 0
    copies: int = 0
    near: int = 0
    example: tuple[str, str] | None = None
    _exact: dict[int, str] = field(default_factory=dict)
    _asked: Counter[int] = field(default_factory=Counter)
    _buckets: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)
    _signatures: list[numpy.ndarray] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)

    def add(self, group: Group, pictures: Sequence[str]) -> None:
        """A row with the keys of its pictures."""
        self.num_rows += 1
        asked = [
            " ".join(_words(part)) for m in group.prompt.messages for part in m.content if not isinstance(part, Image)
        ]
        answers = [" ".join(_words(answer.text)) for answer in group.completions]
        prompt = hash((tuple(pictures), tuple(asked)))
        self._asked[prompt] += 1
        if not answers:  # of a prompt alone, the prompt is all there is to repeat
            self._seen_exactly(prompt, group.prompt.id)
            return
        signals = tuple(sorted(repr(signal) for signal in group.signals))
        if self._seen_exactly(hash((prompt, tuple(answers), signals)), group.prompt.id):
            return
        other = self._seen_nearly(hash(tuple(pictures)), " ".join([*asked, *answers]).split(), group.prompt.id)
        if other is not None:
            self.near += 1
            self.example = self.example or (group.prompt.id, other)

    def found(self) -> Repeats:
        """What repeats so far."""
        return Repeats(
            num_rows=self.num_rows,
            copies=self.copies,
            near=self.near,
            most_asked=max(self._asked.values(), default=0),
            example=self.example,
        )

    def _seen_exactly(self, key: int, name: str) -> bool:
        if key not in self._exact:
            self._exact[key] = name
            return False
        self.copies += 1
        self.example = self.example or (name, self._exact[key])
        return True

    def _seen_nearly(self, pictures: int, words: Sequence[str], name: str) -> str | None:
        """The earlier row that this one nearly repeats, if there is one."""
        signature = _signature(words)
        places = [
            (pictures, start, hash(signature[start : start + BAND].tobytes())) for start in range(0, NUM_HASHES, BAND)
        ]
        candidates = {row for place in places for row in self._buckets.get(place, [])}
        near = next((row for row in sorted(candidates) if (self._signatures[row] == signature).mean() >= NEAR), None)
        if near is not None:
            return self._names[near]
        for place in places:
            bucket = self._buckets.setdefault(place, [])
            if len(bucket) < MOST_COMPARED:
                bucket.append(len(self._signatures))
        self._signatures.append(signature)
        self._names.append(name)
        return None


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


def _signature(words: Sequence[str]) -> numpy.ndarray:
    """The smallest value of each of many hashes over the runs of words."""
    runs = {" ".join(words[start : start + RUN]) for start in range(max(1, len(words) - RUN + 1))}
    values = numpy.array([zlib.crc32(run.encode()) % _PRIME for run in runs], dtype=numpy.int64)
    return ((values[:, None] * _FACTORS + _TERMS) % _PRIME).min(axis=0).astype(numpy.uint32)


_random = numpy.random.Generator(numpy.random.PCG64(0))
_FACTORS = _random.integers(1, _PRIME, NUM_HASHES, dtype=numpy.int64)
_TERMS = _random.integers(0, _PRIME, NUM_HASHES, dtype=numpy.int64)
