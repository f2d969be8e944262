"""YAML and JSON that somebody else wrote, as plain values: bounded in length, depth, values and digits.

One reader for recipes, judges, studies, overrides and what a run folder holds; one for rows, summaries and replies.
What is beyond a bound is refused before it is built, in one sentence. Knows no recipe and no record.
"""

import json
import math
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import yaml

MAX_YAML = 2**20
"""Characters of a YAML text."""
MAX_YAML_VALUES = 20_000
"""Keys and values of a YAML text, what aliases stand for counted each time."""
MAX_YAML_DEPTH = 50
"""Blocks inside blocks."""
MAX_JSON = 128 * 2**20
"""Characters of a JSON text, and bytes of a line: twice the largest picture that a row may carry."""
MAX_JSON_VALUES = 4_000_000
"""Values, keys and brackets of a JSON text."""
MAX_JSON_DEPTH = 100
"""Lists and objects inside each other."""
WHOLE_FILE = 20
"""Times as much in a file of annotations that is read whole."""
LARGEST = 2**63 - 1
"""Whole numbers beyond this, either way, fit no file, tensor or database."""

_ODD_NUMBER = re.compile(r"\d{19}|[eE]\+?\d{3}")
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_CORE = "tag:yaml.org,2002:"
_MERGE = f"{_CORE}merge"
_PLAIN = tuple(_CORE + name for name in ("null", "bool", "int", "float", "merge"))


class Unreadable(ValueError):
    """A text that cannot be read; `line` is where in a YAML text, `cure` what to do."""

    def __init__(self, problem: str, cure: str, *, line: int | None = None) -> None:
        """The message is one sentence."""
        place = f"line {line}: " if line is not None else ""
        super().__init__(f"{place}{problem}; {cure}")
        self.problem = problem
        self.cure = cure
        self.line = line


def parse_yaml(text: str) -> Any:
    """The values of a YAML text: keys are text and stand once, tags are refused, aliases count as what they name."""
    if len(text) > MAX_YAML:
        raise Unreadable(f"has {len(text):,} characters", f"keep it below {MAX_YAML:,}")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problem, _, cure = (error.problem or "is not YAML").partition("; ")
        raise Unreadable(" ".join(problem.split()), cure or "correct that line", line=line) from error
    except yaml.YAMLError as error:
        raise Unreadable(f"is not YAML text ({' '.join(str(error).split())})", "save it as plain text") from error


def parse_json(text: str, *, whole_file: bool = False, without: Collection[str] = ()) -> Any:
    """The value of a JSON text; repeated keys, numbers that are not finite and halves of characters are refused.

    A `whole_file` of annotations may be longer than a row, and keys in `without` are dropped as they are read.
    """
    _check_size(text, WHOLE_FILE if whole_file else 1)
    odd = _ODD_NUMBER.search(text) is not None
    hooks: dict[str, Any] = {"parse_int": _whole, "parse_float": _finite} if odd else {}
    try:
        value = json.loads(text, object_pairs_hook=partial(_object, without), parse_constant=_no_number, **hooks)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}"
        raise Unreadable(f"is not JSON ({error.msg} at {where})", "write one whole JSON value") from error
    except RecursionError as error:
        raise _too_deep() from error
    _check_depth(value)
    if _HALF_PAIR.search(text) is not None:
        _check_characters(value)
    return value


def check_numbers(text: str) -> None:
    """Unreadable for a JSON text whose numbers would be refused where it is read."""
    if _ODD_NUMBER.search(text) is not None:
        parse_json(text)


def parse_json_bytes(data: bytes) -> Any:
    """The value of a JSON text in UTF-8."""
    try:
        return parse_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 (byte {error.start + 1})", "save it as UTF-8") from error


def read_text(path: Path, *, limit: int) -> str:
    """The text of a file in UTF-8 that holds at most `limit` bytes."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Unreadable(f"is longer than {limit:,} bytes", "name another file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 (byte {error.start + 1})", "save it as UTF-8") from error


def lines_of(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Every line with its number, from 1; None in place of one that is too long to be read."""
    number = 0
    while line := file.readline(MAX_JSON + 1):
        number += 1
        if len(line) <= MAX_JSON or line.endswith(b"\n"):
            yield number, line
            continue
        while (rest := file.readline(MAX_JSON)) and not rest.endswith(b"\n"):
            pass
        yield number, None


def too_long() -> Unreadable:
    """What is wrong with a line that `lines_of` does not give."""
    return Unreadable(f"is longer than {MAX_JSON:,} bytes", "keep large pictures in files of their own")


def _check_size(text: str, times: int) -> None:
    length, num_values = times * MAX_JSON, times * MAX_JSON_VALUES
    if len(text) > length:
        raise Unreadable(f"is longer than {length:,} characters", "split it")
    if len(text) > num_values and sum(text.count(mark) for mark in ",:[{") > num_values:
        raise Unreadable(f"holds more than {num_values:,} values", "split it")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Unreadable:
    return Unreadable(f"is nested more than {MAX_JSON_DEPTH} deep", "nest it less deeply")


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Unreadable("holds half of a surrogate pair", "write whole characters") from error


def _object(without: Collection[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise Unreadable(f"has the key {cut(repeated)!r} twice in one object", "keep one of them")
    for name in without:
        row.pop(name, None)
    return row


def _no_number(name: str) -> float:
    raise Unreadable(f"holds {name}, which is no JSON", "write a finite number or leave it out")


def _whole(digits: str) -> int:
    number = int(digits) if len(digits) <= 20 else None
    if number is None or abs(number) > LARGEST:
        raise Unreadable(f"holds the whole number {cut(digits)}", f"write none beyond {LARGEST}")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise Unreadable(f"holds {cut(digits)}, which is not finite", "write a finite number or leave it out")
    return number


def cut(text: str) -> str:
    """Text of others, short enough for a sentence."""
    return text if len(text) <= 40 else f"{text[:37]}..."


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader within bounds. State: what was composed so far, by anchor."""

    def __init__(self, text: str) -> None:
        """A loader of one text."""
        super().__init__(text)
        self._num_values = 0
        self._depth = self._deepest = 0
        self._named: dict[str, tuple[int, int] | None] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, counted before it is built; an alias counts as what it names."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            known = self._named.get(event.anchor, (0, 0))
            if known is None:
                raise _marked(f"the alias *{cut(event.anchor)} stands inside what it names", "write it out", event)
            self._count(*known, event)
            return super().compose_node(parent, index)
        self._count(1, 1, event)
        if event.tag is not None:
            tag = cut(str(event.tag).replace(_CORE, "!!"))
            raise _marked(f"the tag {tag} is not read", "write the value without it", event)
        before, outer = self._num_values - 1, self._deepest
        if event.anchor is not None:
            self._named[event.anchor] = None
        self._depth += 1
        self._deepest = self._depth
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._named[event.anchor] = (self._num_values - before, self._deepest - self._depth)
        self._deepest = max(outer, self._deepest)
        return node

    def _count(self, num_values: int, depth: int, event: yaml.Event) -> None:
        self._num_values += num_values
        if self._num_values > MAX_YAML_VALUES:
            raise _marked(f"there are more than {MAX_YAML_VALUES:,} keys and values", "write fewer", event)
        if self._depth + depth > MAX_YAML_DEPTH:
            raise _marked(f"blocks are nested more than {MAX_YAML_DEPTH} deep", "nest them less deeply", event)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node, its keys checked first."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_CORE}str":
                shown = f"key {cut(key_node.value)}" if isinstance(key_node, yaml.ScalarNode) else "a key"
                raise _marked(f"{shown} is not text", "put it in quotes", key_node)
            if key_node.value in seen:
                raise _marked(f"key {cut(key_node.value)!r} is given twice", "remove one", key_node)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)

    def text(self, node: yaml.ScalarNode) -> str:
        """Text that every file can hold."""
        try:
            node.value.encode()
        except UnicodeEncodeError as error:
            raise _marked("half of a surrogate pair", "write whole characters", node) from error
        return node.value

    def whole(self, node: yaml.ScalarNode) -> int:
        """A whole number."""
        try:
            number = self.construct_yaml_int(node) if len(node.value) <= 80 else LARGEST + 1
        except ValueError as error:
            raise _marked(f"{cut(node.value)} is no whole number", "put text in quotes", node) from error
        if abs(number) > LARGEST:
            raise _marked(f"{cut(node.value)} is too large", f"write no number beyond {LARGEST}", node)
        return number

    def finite(self, node: yaml.ScalarNode) -> float:
        """A finite number."""
        try:
            number = self.construct_yaml_float(node)
        except ValueError as error:
            raise _marked(f"{cut(node.value)} is no number", "put text in quotes", node) from error
        if not math.isfinite(number):
            raise _marked(f"{cut(node.value)} is not finite", "give a finite number", node)
        return number


_Loader.yaml_implicit_resolvers = {  # dates are text; what else is written plainly is as in any YAML
    mark: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN]
    for mark, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _make in (("str", _Loader.text), ("int", _Loader.whole), ("float", _Loader.finite)):
    _Loader.add_constructor(_CORE + _name, _make)


def _marked(problem: str, cure: str, at: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=f"{problem}; {cure}", problem_mark=at.start_mark)
