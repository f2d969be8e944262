"""The one record: a prompt with its images, its K answers, and some signal on the answers.

Owns the vocabulary that every room shares and its form on disk (one JSON line per group).
Knows nothing of torch, of tokenizers or of files: an image is a reference or embedded bytes, never pixels.
Signals live in `sightline.signals`, the reading of single fields in `sightline.fields`; other rooms import
types from here.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.fields import (
    Reader,
    RecordError,
    count,
    expect,
    listed,
    mapping_of,
    named,
    number,
    one_of,
    optional,
    parse_json,
    plain,
    read_record,
    text,
    tuple_of,
    write_json,
    write_record,
)
from sightline.signals import (
    Label,
    Pair,
    Rank,
    Reward,
    Signal,
    Span,
    check_signal,
    signal_from_dict,
    signal_to_dict,
)

__all__ = [
    "SCHEMA_VERSION",
    "Completion",
    "Group",
    "Image",
    "Label",
    "Message",
    "Pair",
    "Prompt",
    "Rank",
    "RecordError",
    "Reward",
    "Role",
    "Signal",
    "Span",
    "group_from_dict",
    "group_to_dict",
]

SCHEMA_VERSION = 1

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture by reference: a path below the data root, or its encoded bytes (PNG, JPEG, WebP).

    Example: `Image(path="images/0001.png")`.
    """

    path: str | None = None
    """Relative to the data root; never absolute, never above it."""
    data: bytes | None = None
    """The encoded file itself, when the row carries it."""

    def __post_init__(self) -> None:
        """Exactly one of the two."""
        if (self.path is None) == (self.data is None):
            raise RecordError("image", "needs exactly one of path and data", "give one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn: text and images in the order in which the model reads them."""

    role: Role
    """Who speaks."""
    content: tuple[str | Image, ...]
    """Parts in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model is asked: messages with images, and what is known to be true about them.

    Example: `Prompt(id="7", messages=(Message(role="user", content=(Image(path="7.png"), "What is it?")),))`.
    """

    id: str
    """Unique in its file; seeds and errors name it."""
    messages: tuple[Message, ...]
    """The conversation up to the answer."""
    task: str | None = None
    """Name of the task that the prompt belongs to, for scoring ("describe")."""
    truth: Mapping[str, Any] = field(default_factory=dict)
    """What rewards and evaluation may look at and the model may not; plain JSON."""
    alternates: Mapping[str, Image] = field(default_factory=dict)
    """Other pictures by name (a counterfactual, a retrieved neighbour)."""

    @property
    def images(self) -> tuple[Image, ...]:
        """All images, in reading order."""
        return tuple(part for message in self.messages for part in message.content if isinstance(part, Image))


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer, as text and, when it was sampled, exactly as the tokens that came out."""

    text: str
    """What a reader sees."""
    token_ids: tuple[int, ...] | None = None
    """The tokens as sampled, end-of-turn included; never made anew from the text."""
    behaviour_logprobs: tuple[float, ...] | None = None
    """Log-probability of each token under the distribution that it was drawn from."""
    finish_reason: Literal["stop", "length"] | None = None
    """Why the answer ended."""
    sampling: Mapping[str, Any] | None = None
    """Temperature, seed and the like."""
    policy_step: int | None = None
    """Update after which the sampling policy stood."""
    source: str | None = None
    """Who wrote it: a model, a person, an exact rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A prompt with its images, its K answers, and the signals on them.

    Example (one line on disk, wrapped here; `docs/data.md` explains every field):

        {"schema_version": 1,
         "prompt": {"id": "7", "task": "describe",
                    "messages": [{"role": "user", "content": [{"image": {"path": "7.png"}},
                                                              {"text": "What is here?"}]}],
                    "truth": {"objects": [{"label": "red circle", "box": [4, 6, 20, 22]}]}},
         "completions": [{"text": "A red circle."}, {"text": "A red circle and a blue star."}],
         "signals": [{"kind": "pair", "chosen": 0, "rejected": 1, "margin": 0.5, "source": "person"}]}
    """

    prompt: Prompt
    """What was asked."""
    completions: tuple[Completion, ...] = ()
    """The answers."""
    signals: tuple[Signal, ...] = ()
    """What is known about the answers."""

    def __post_init__(self) -> None:
        """Signals must fit the answers, and log-probabilities their tokens; RecordError names the field."""
        for i, completion in enumerate(self.completions):
            if completion.behaviour_logprobs is not None:
                num_tokens = len(completion.token_ids or ())
                problem = f"has {len(completion.behaviour_logprobs)} entries for {num_tokens} tokens"
                where = f"completions[{i}].behaviour_logprobs"
                expect(len(completion.behaviour_logprobs) == num_tokens, where, problem, "give each token one")
        answers = [completion.text for completion in self.completions]
        for i, signal in enumerate(self.signals):
            check_signal(signal, answers, f"signals[{i}]")

    def to_json(self) -> str:
        """One JSON line, without a newline; RecordError when a value is no finite plain JSON."""
        return write_json(group_to_dict(self), f"prompt {self.prompt.id!r}")

    @staticmethod
    def from_json(line: str) -> "Group":
        """The group of one JSON line; RecordError names the field that is wrong."""
        return group_from_dict(parse_json(line, "row"))


def group_to_dict(group: Group) -> dict[str, Any]:
    """The group as plain JSON values; fields at their default are left out."""
    prompt: dict[str, Any] = {"id": group.prompt.id}
    if group.prompt.task is not None:
        prompt["task"] = group.prompt.task
    prompt["messages"] = [_message_to_dict(message) for message in group.prompt.messages]
    if group.prompt.truth:
        prompt["truth"] = dict(group.prompt.truth)
    if group.prompt.alternates:
        prompt["alternates"] = {name: _image_to_dict(image) for name, image in group.prompt.alternates.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "prompt": prompt,
        "completions": [write_record(completion) for completion in group.completions],
        "signals": [signal_to_dict(signal) for signal in group.signals],
    }


def group_from_dict(row: Any) -> Group:
    """The group of plain JSON values; unknown, missing and ill-fitting fields are refused by name.

    An image's encoded file may stand here as it is, `{"bytes": b"..."}`: Parquet hands it over so.
    """
    named(row, "row", ("schema_version", "prompt", "completions", "signals"))
    version = row.get("schema_version", SCHEMA_VERSION)
    good = version == SCHEMA_VERSION and type(version) is int
    expect(good, "schema_version", f"is {version!r}", f"this version of Sightline reads {SCHEMA_VERSION}")
    expect("prompt" in row, "prompt", "is missing", "every row needs a prompt with id and messages")
    completions = enumerate(listed(row, "completions", "completions"))
    signals = enumerate(listed(row, "signals", "signals"))
    return Group(
        prompt=_prompt_from_dict(row["prompt"]),
        completions=tuple(_completion_from_dict(item, f"completions[{i}]") for i, item in completions),
        signals=tuple(signal_from_dict(item, f"signals[{i}]") for i, item in signals),
    )


_COMPLETION: dict[str, Reader] = {
    "text": text,
    "token_ids": optional(tuple_of(count)),
    "behaviour_logprobs": optional(tuple_of(number)),
    "finish_reason": optional(one_of("stop", "length")),
    "sampling": optional(mapping_of(plain)),
    "policy_step": optional(count),
    "source": optional(text),
}


def _completion_from_dict(row: Any, where: str) -> Completion:
    return read_record(Completion, _COMPLETION, row, where)


def _prompt_from_dict(row: Any) -> Prompt:
    named(row, "prompt", ("id", "task", "messages", "truth", "alternates"))
    expect("id" in row, "prompt.id", "is missing", "give every row a string of its own")
    name = text(row["id"], "prompt.id")
    expect(name != "", "prompt.id", "is empty", "give every row a string of its own")
    messages = listed(row, "messages", "prompt.messages")
    expect(bool(messages), "prompt.messages", "is missing or empty", "give at least one user message")
    return Prompt(
        id=name,
        task=optional(text)(row.get("task"), "prompt.task"),
        messages=tuple(_message_from_dict(item, f"prompt.messages[{i}]") for i, item in enumerate(messages)),
        truth=mapping_of(plain)(row.get("truth", {}), "prompt.truth"),
        alternates=mapping_of(_image_from_dict)(row.get("alternates", {}), "prompt.alternates"),
    )


def _message_to_dict(message: Message) -> dict[str, Any]:
    parts = [{"text": part} if isinstance(part, str) else {"image": _image_to_dict(part)} for part in message.content]
    return {"role": message.role, "content": parts}


def _message_from_dict(row: Any, where: str) -> Message:
    named(row, where, ("role", "content"))
    role = one_of("system", "user", "assistant")(row.get("role"), f"{where}.role")
    content = row.get("content")
    if isinstance(content, str):
        content = [{"text": content}]
    good = isinstance(content, list)
    expect(good, f"{where}.content", "is neither text nor a list of parts", "write a string or a list")
    assert isinstance(content, list)
    return Message(role=role, content=tuple(_part(p, f"{where}.content[{i}]") for i, p in enumerate(content)))


def _part(row: Any, where: str) -> str | Image:
    good = isinstance(row, dict) and len(row) == 1 and next(iter(row)) in ("text", "image")
    expect(good, where, "is neither {text: ...} nor {image: ...}", "write one key per part")
    if "text" in row:
        return text(row["text"], f"{where}.text")
    return _image_from_dict(row["image"], f"{where}.image")


def _image_to_dict(image: Image) -> dict[str, str]:
    if image.path is not None:
        return {"path": image.path}
    assert image.data is not None
    return {"base64": base64.b64encode(image.data).decode("ascii")}


def _image_from_dict(row: Any, where: str) -> Image:
    if isinstance(row, str):
        row = {"path": row}
    good = isinstance(row, dict) and len(row) == 1 and next(iter(row)) in ("path", "base64", "bytes")
    expect(good, where, "is neither {path: ...} nor {base64: ...}", "name a file or embed its bytes")
    ((form, value),) = row.items()
    if form == "path":
        path = text(value, f"{where}.path")
        expect(path != "", f"{where}.path", "is empty", "name a file below the data root")
        return Image(path=path)
    if form == "bytes":
        expect(isinstance(value, bytes), f"{where}.bytes", "is not bytes", "in JSON, embed the file as base64")
        return Image(data=value)
    try:
        return Image(data=base64.b64decode(text(value, f"{where}.base64"), validate=True))
    except RecordError:
        raise
    except ValueError as error:
        raise RecordError(f"{where}.base64", "is not base64", "encode the whole file as base64") from error
