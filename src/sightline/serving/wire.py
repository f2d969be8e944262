"""OpenAI's chat completions as JSON: requests read strictly, within limits; answers, chunks and errors written.

A field that would change the answer and is not offered is refused by name; nothing is passed over silently. Pictures
come as data: URLs alone, since a server that fetches addresses for strangers can be turned against its network.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sightline.bounded import Unreadable, parse_json_bytes
from sightline.data.images import ImageStore
from sightline.records import Image, Message, RecordError, Role
from sightline.registry import did_you_mean
from sightline.serving.contract import Answer, ChatRequest, Choice, Failure

_READ = (
    "model", "messages", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p", "stop", "seed",
    "logprobs", "top_logprobs", "stream", "stream_options",
)  # fmt: skip
_HARMLESS = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
"""Fields that change nothing of an answer."""
_NEUTRAL = ("frequency_penalty", "presence_penalty", "logit_bias", "tools", "response_format", "top_logprobs")
"""Fields that are taken at the value that asks for nothing."""
LONGEST_STOP = 1000
_SHOWN = 100
"""Characters of a request that are quoted in an answer."""
_ROLES: Mapping[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may ask for. Example: `Limits(max_tokens=256)`."""

    max_body_bytes: int = 32 * 2**20
    """Of a request."""
    max_images: int = 16
    """In one conversation."""
    max_image_bytes: int = 16 * 2**20
    """Of one encoded picture."""
    max_image_pixels: int = 50_000_000
    """Of one picture; its header is read, it is never decoded."""
    max_request_pixels: int = 100_000_000
    """Of all pictures in one conversation."""
    max_text: int = 2**20
    """Characters of all texts in one conversation."""
    max_waiting_bytes: int = 2**29
    """Of all requests that are being read or answered."""
    body_seconds: float = 60.0
    """Until a request's body has arrived."""
    reading_seconds: float = 30.0
    """Until its pictures are opened."""
    max_tokens: int = 1024
    """Of one choice; also what a request gets that asks for no number."""
    max_choices: int = 16
    """Of one request."""
    max_messages: int = 256
    """In one conversation."""


class BadRequest(ValueError):
    """A request that cannot be answered; `failure` is what the client is told."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        retry_after: float | None = None,
    ) -> None:
        """The message names the field, the value and the cure."""
        super().__init__(message)
        self.failure = Failure(status=status, message=message, param=param, code=code, retry_after=retry_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request, and how its answer is to be sent."""

    request: ChatRequest
    """What is asked."""
    stream: bool
    """As events, or as one JSON object."""
    with_usage: bool
    """Whether the last event counts the tokens."""


def read_request(body: bytes, *, model: str, limits: Limits) -> Wanted:
    """The request of a body; BadRequest says what is wrong."""
    try:
        row = parse_json_bytes(body)
    except Unreadable as error:
        raise BadRequest(f"the body {in_short(error.problem)}; {error.cure}") from error
    if not isinstance(row, dict):
        raise BadRequest("the body is not a JSON object; send one with model and messages")
    _check_fields(row)
    if row.get("model") != model:
        problem = f"the model {shown(row.get('model'))} does not exist; this server has {model}"
        raise BadRequest(problem, param="model", code="model_not_found", status=404)
    options = row.get("stream_options") or {}
    return Wanted(
        request=ChatRequest(
            messages=_Reader(limits).messages(row.get("messages")),
            max_tokens=_max_tokens(row, limits),
            may_shorten=row.get("max_tokens") is None and row.get("max_completion_tokens") is None,
            num=_whole(row, "n", 1, low=1, high=limits.max_choices),
            temperature=_number(row, "temperature", 1.0, low=0.0, high=2.0),
            top_p=_number(row, "top_p", 1.0, low=1e-6, high=1.0),
            stop=_stop(row.get("stop")),
            seed=None if row.get("seed") is None else _whole(row, "seed", 0, low=-(2**63), high=2**63 - 1),
            with_logprobs=_flag(row, "logprobs"),
        ),
        stream=_flag(row, "stream"),
        with_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def completion(answer: Answer, *, name: str, created: int, model: str) -> dict[str, object]:
    """The answer as one object."""
    choices = [
        {
            "index": number,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": _logprobs(choice),
            "finish_reason": choice.finish_reason,
        }
        for number, choice in enumerate(answer.choices)
    ]
    head = {"id": name, "object": "chat.completion", "created": created, "model": model}
    return {**head, "choices": choices, "usage": _usage(answer)}


def chunks(answer: Answer, *, name: str, created: int, model: str, with_usage: bool) -> Iterator[str]:
    """The answer as server-sent events: word by word, and "[DONE]" at the end."""
    head = {"id": name, "object": "chat.completion.chunk", "created": created, "model": model}

    def event(choices: Sequence[Mapping[str, object]], **more: object) -> str:
        return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"

    for number, choice in enumerate(answer.choices):
        yield event([_delta(number, {"role": "assistant", "content": ""})])
        pieces = [(text, [(text, value)]) for text, value in choice.logprobs] or _words(choice.text)
        for text, logprobs in pieces:
            yield event([_delta(number, {"content": text}, _logprobs(Choice(text=text, logprobs=tuple(logprobs))))])
        yield event([_delta(number, {}, finish_reason=choice.finish_reason)])
    if with_usage:
        yield event([], usage=_usage(answer))
    yield "data: [DONE]\n\n"


def shown(value: object) -> str:
    """A value of a stranger, quoted short and in plain characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return in_short(ascii(value[:_SHOWN]) if isinstance(value, str) else json.dumps(value))


def in_short(text: str) -> str:
    """A sentence that may quote a stranger, in plain characters and not too long."""
    plain = text[: 2 * _SHOWN].encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= _SHOWN else f"{plain[: _SHOWN - 3]}..."


def error_body(failure: Failure) -> dict[str, object]:
    """A failure as OpenAI's servers word it."""
    kind = "rate_limit_error" if failure.status == 429 else "server_error"
    kind = "invalid_request_error" if 400 <= failure.status < 500 and failure.status != 429 else kind
    return {"error": {"message": failure.message, "type": kind, "param": failure.param, "code": failure.code}}


def _check_fields(row: Mapping[str, object]) -> None:
    for field, value in row.items():
        empty = value in (None, 0, False) or value in ([], {}, {"type": "text"})
        if field in _NEUTRAL and not empty:
            raise BadRequest(f"{field} is not offered here; leave it out", param=field)
        if field not in (*_READ, *_HARMLESS, *_NEUTRAL) and value is not None:
            hint = did_you_mean(field, _READ) if len(field) <= _SHOWN else ""
            raise BadRequest(f"unknown field {shown(field)}{hint}", param=shown(field))


class _Reader:
    """Reads messages within what a whole conversation may hold. State: what was taken so far."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._store = ImageStore(None, max_pixels=limits.max_image_pixels, max_bytes=limits.max_image_bytes)
        self._num_images = self._num_pixels = self._num_chars = 0

    def messages(self, value: object) -> tuple[Message, ...]:
        most = self._limits.max_messages
        if not isinstance(value, list) or not 0 < len(value) <= most:
            raise BadRequest(f"messages is no list of 1 to {most} messages; give one", param="messages")
        messages = []
        for number, row in enumerate(value):
            where = f"messages[{number}]"
            role = _ROLES.get(row.get("role")) if isinstance(row, dict) and isinstance(row.get("role"), str) else None
            if role is None:
                raise BadRequest(f"{where}.role is none of {', '.join(map(str, _ROLES))}; use one", param=where)
            content = tuple(self._content(row.get("content"), f"{where}.content"))
            messages.append(Message(role=role, content=content))
        if messages[-1].role != "user":
            raise BadRequest("the last message is not the user's; end with one that is", param="messages")
        return tuple(messages)

    def _content(self, value: object, where: str) -> Iterator[str | Image]:
        parts = [{"type": "text", "text": value}] if isinstance(value, str) else value
        if not isinstance(parts, list) or not parts:
            raise BadRequest(f"{where} is neither text nor a list of parts; give one of them", param=where)
        for number, part in enumerate(parts):
            here = f"{where}[{number}]"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                yield self._text(part["text"])
            elif kind == "image_url":
                yield self._image(part.get("image_url"), here)
            else:
                problem = f"{here} is no part of type text or image_url; other types are not offered"
                raise BadRequest(problem, param=here)

    def _text(self, text: str) -> str:
        self._num_chars += len(text) + 1
        if self._num_chars > self._limits.max_text:
            problem = f"messages holds more than {self._limits.max_text} characters; send less"
            raise BadRequest(problem, param="messages", code="context_length_exceeded")
        return text

    def _image(self, value: object, where: str) -> Image:
        self._num_images += 1
        if self._num_images > self._limits.max_images:
            raise BadRequest(f"messages holds more than {self._limits.max_images} images; send fewer", param="messages")
        image = _decoded(value, where)
        try:
            width, height = self._store.size(image)
            self._num_pixels += width * height
            if self._num_pixels > self._limits.max_request_pixels:
                most = self._limits.max_request_pixels
                raise BadRequest(f"messages holds more than {most} pixels; send smaller images", param="messages")
            self._store.open(image)
        except RecordError as error:
            problem = f"{where}: the image {in_short(error.problem)}; {error.cure}"
            raise BadRequest(problem, param=where) from error
        return image


def _decoded(value: object, where: str) -> Image:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url.startswith("data:"):
        problem = "is an address, and this server fetches none" if isinstance(url, str) else "has no url"
        raise BadRequest(f"{where}.image_url {problem}; send the picture as a data: URL", param=where)
    head, comma, data = url.partition(",")
    try:
        if not comma or not head.endswith(";base64"):
            raise ValueError("no base64")
        return Image(data=base64.b64decode(data, validate=True))
    except ValueError as error:
        problem = f"{where}.image_url is no data: URL in base64"
        raise BadRequest(f"{problem}; write data:image/png;base64,...", param=where) from error


def _max_tokens(row: Mapping[str, object], limits: Limits) -> int:
    for field in ("max_completion_tokens", "max_tokens"):
        if row.get(field) is not None:
            return _whole(row, field, limits.max_tokens, low=1, high=limits.max_tokens)
    return limits.max_tokens


def _stop(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list) or len(texts) > 4 or not all(isinstance(text, str) and text for text in texts):
        raise BadRequest("stop is no text or list of up to four texts; give one", param="stop")
    if any(len(text) > LONGEST_STOP for text in texts):
        raise BadRequest(f"stop holds a text of more than {LONGEST_STOP} characters; shorten it", param="stop")
    return tuple(texts)


def _whole(row: Mapping[str, object], field: str, default: int, *, low: int, high: int) -> int:
    value = row.get(field)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"{field} is {shown(value)}; give a whole number from {low} to {high}", param=field)
    return value


def _number(row: Mapping[str, object], field: str, default: float, *, low: float, high: float) -> float:
    value = row.get(field)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"{field} is {shown(value)}; give a number from {low:g} to {high:g}", param=field)
    return float(value)


def _flag(row: Mapping[str, object], field: str) -> bool:
    value = row.get(field)
    if not isinstance(value, bool | None):
        raise BadRequest(f"{field} is {shown(value)}; give true or false", param=field)
    return value is True


def _delta(
    number: int, delta: Mapping[str, object], logprobs: object = None, finish_reason: str | None = None
) -> dict[str, object]:
    return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _words(text: str) -> list[tuple[str, list[tuple[str, float]]]]:
    """The text in pieces that end behind a space, without log-probabilities."""
    return [(piece, []) for piece in text.replace(" ", " \0").split("\0") if piece]


def _logprobs(choice: Choice) -> dict[str, object] | None:
    if not choice.logprobs:
        return None
    content = [
        {"token": text, "logprob": value, "bytes": list(text.encode(errors="replace")), "top_logprobs": []}
        for text, value in choice.logprobs
    ]
    return {"content": content, "refusal": None}


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
