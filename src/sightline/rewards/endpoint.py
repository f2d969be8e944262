"""Any OpenAI-compatible endpoint as one who answers: several requests at a time, paced, tried again, paid for.

Owns how a question becomes a request and a response a reply. The client is `openai`'s, with its own retries switched
off; each request in flight has a thread of its own, and replies are handed over as they arrive. Knows neither what is
asked nor where replies are kept. The key is read from the environment by the caller and is never stored or shown.
"""

import base64
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal

import openai

from sightline.journal import RunFailed
from sightline.records import Image, Message
from sightline.rewards.ask import Question, Reply, picture_of
from sightline.rewards.bounded_http import BoundedTransport
from sightline.rewards.endpoint_trouble import EndpointError, Situation, Trouble, short, trouble_of
from sightline.rewards.masking import masked, secrets_of, shown_url

TYPES = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))
FIRST_TRIES = 3
MANY = 8
LONGEST_WAIT = 600.0
LONGEST_BACKOFF = 60.0
MOST_TOKENS = 10**9
"""A server that counts more in one reply counts wrong."""

_Arrived = tuple[int, Reply | EndpointError | RunFailed | None]
"""What became of a question, by its number; None of one that was given up unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """Where to ask and how hard. Example: `EndpointSettings(base_url="http://127.0.0.1:8000/v1", model="judge")`."""

    base_url: str
    """Of the API; usually ends in /v1."""
    model: str
    """As the server calls it."""
    concurrency: int = 8
    """Requests in flight at most."""
    requests_per_minute: float | None = None
    """Begun at most, evenly spaced."""
    timeout: float = 120.0
    """Seconds after which a request has failed, whatever has arrived of its response by then."""
    retries: int = 5
    """Times that a question is tried again after 429, 5xx, a time-out or a lost connection."""
    backoff: float = 1.0
    """Seconds before the first of these, doubled each time, up to a minute; Retry-After comes first."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the server calls the limit on a reply's tokens."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Further fields of every request."""

    @property
    def who(self) -> str:
        """Who answers, for the keys of kept replies."""
        return json.dumps([self.base_url, self.model, self.extra], sort_keys=True)


@dataclass(slots=True, kw_only=True)
class Usage:
    """What was sent; grows."""

    requests: int = 0
    """Requests, repeated ones included."""
    retries: int = 0
    """Of these, those that tried a question again."""
    prompt_tokens: int = 0
    """Tokens of answered questions, as the server counts them."""
    completion_tokens: int = 0
    """Tokens of replies."""


class Endpoint:
    """One endpoint. State: the client, the pace, what was used, and whether it ever answered."""

    def __init__(
        self, settings: EndpointSettings, *, api_key: str | None = None, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """`stop` says that no further request is wanted; those in flight are still waited for."""
        self.settings, self.usage = settings, Usage()
        self._stop = stop
        self._secrets, self._shown_url = secrets_of(settings.base_url, api_key), shown_url(settings.base_url)
        transport = BoundedTransport(settings.base_url, seconds=settings.timeout, connections=settings.concurrency)
        self._client = openai.OpenAI(
            api_key=api_key or "none",
            base_url=settings.base_url,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(transport=transport, follow_redirects=False),
        )
        self._lock = threading.Lock()
        self._next_start = 0.0
        self._answered = self._answered_about_images = False
        self._in_a_row = 0

    def __call__(self, questions: Sequence[Question]) -> Iterator[list[tuple[int, Reply]]]:
        """Replies as they arrive. One question goes first, so that a wrong address or key costs one request."""
        rest = range(len(questions))
        if not self._answered:
            yield from self._sent(questions, rest[:1])
            rest = rest[1:]
        yield from self._sent(questions, rest)

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def _sent(self, questions: Sequence[Question], numbers: range) -> Iterator[list[tuple[int, Reply]]]:
        left, halt = iter(numbers), threading.Event()  # of a range, so next() is safe between threads
        arrived: SimpleQueue[_Arrived | None] = SimpleQueue()

        def work() -> None:
            try:
                while not halt.is_set() and (number := next(left, None)) is not None:
                    arrived.put((number, self._safely_asked(questions[number], halt)))
            finally:
                arrived.put(None)

        running = min(self.settings.concurrency, len(numbers))
        for _ in range(running):
            threading.Thread(target=work, daemon=True).start()  # a second Ctrl-C need not wait for them
        failed: EndpointError | RunFailed | None = None
        try:
            while running:
                if self._stop():
                    halt.set()
                some = _taken(arrived)
                running -= some.count(None)
                given = [one for one in some if one is not None]
                failed = failed or next(
                    (reply for _, reply in given if isinstance(reply, EndpointError | RunFailed)), None
                )
                if failed is not None:
                    halt.set()
                yield [(number, reply) for number, reply in given if isinstance(reply, Reply)]
        finally:
            halt.set()
        if failed is not None:
            raise failed
        if self._stop():
            raise KeyboardInterrupt

    def _safely_asked(self, question: Question, halt: threading.Event) -> Reply | EndpointError | RunFailed | None:
        """The reply, or a problem: whatever a response makes the client raise, no question vanishes with its thread."""
        try:
            return self._asked(question, halt)
        except Exception as error:  # noqa: BLE001 (a stranger's bytes; told as the problem of this one question)
            problem = f"answers with what cannot be read ({type(error).__name__}: {short(str(error), self._secrets)})"
            return self._given_up(self._sentence(problem), counts=True)

    def _asked(self, question: Question, halt: threading.Event) -> Reply | EndpointError | RunFailed | None:
        """The reply to one question after as many tries as it takes; None when it was given up because of `halt`."""
        settings, tries = self.settings, 0
        while self._paced(halt):
            found = self._request(question, again=tries > 0)
            if isinstance(found, Reply):
                return found
            tries += 1
            if found.refused:
                return Reply(refused=True)
            nowhere = not self._answered and not found.reached and tries >= min(FIRST_TRIES, settings.retries + 1)
            if found.cure is not None or nowhere:
                cure = found.cure or "check judge.base_url (it usually ends in /v1), and that the server runs"
                return EndpointError(self._sentence(f"{found.problem}; {cure}"))
            wait = min(settings.backoff * 2 ** (tries - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1.0)
            if not found.again or tries > settings.retries or (found.after or 0) > LONGEST_WAIT:
                return self._given_up(self._sentence(found.problem), counts=found.again)
            halt.wait(wait if found.after is None else found.after)
        return None

    def _given_up(self, problem: str, *, counts: bool) -> Reply | RunFailed:
        """No reply after all tries; when that happens to many questions in a row, the endpoint is down."""
        with self._lock:
            self._in_a_row += counts
            if self._in_a_row < max(MANY, self.settings.concurrency):
                return Reply(problem=problem)
        cure = "when it is up again, the same command goes on from here"
        return RunFailed(f"{problem}, for {self._in_a_row} questions in a row; {cure}")

    def _request(self, question: Question, *, again: bool) -> Reply | Trouble:
        with self._lock:
            self.usage.requests += 1
            self.usage.retries += again
        with_images = any(isinstance(part, Image) for message in question.messages for part in message.content)
        try:
            create = self._client.chat.completions.with_raw_response.create
            response = create(**_body(question, self.settings))  # type: ignore[arg-type] - fields by name, extra ones too
            reply = read_response(response.content, self._secrets)
        except openai.OpenAIError as error:
            now = Situation(
                url=self.settings.base_url,
                model=self.settings.model,
                secrets=self._secrets,
                proven=self._answered,
                blind=with_images and not self._answered_about_images,
            )
            return trouble_of(error, now)
        if reply is None:
            return Trouble(problem="answers with something that is no chat completion", again=True, reached=False)
        with self._lock:
            self._answered, self._in_a_row = True, 0
            self._answered_about_images |= with_images
            self.usage.prompt_tokens += reply.prompt_tokens
            self.usage.completion_tokens += reply.completion_tokens
        return reply

    def _paced(self, halt: threading.Event) -> bool:
        """Wait until the next request may begin; False when none is wanted any more."""
        if self.settings.requests_per_minute is not None:
            with self._lock:
                start = max(self._next_start, time.monotonic())
                self._next_start = start + 60 / self.settings.requests_per_minute
            halt.wait(max(start - time.monotonic(), 0.0))
        return not halt.is_set()

    def _sentence(self, problem: str) -> str:
        """A problem with the address in front, and without the key, which some servers quote."""
        return f"{self._shown_url} {masked(problem, self._secrets)}"


def read_response(content: bytes, secrets: Sequence[str] = ()) -> Reply | None:
    """The reply in the body of a response, secrets masked; None when the body is no chat completion."""
    try:
        row = json.loads(content)
        choice = row["choices"][0]
        text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
        usage = row.get("usage") or {}
        tokens = [usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")]
        reason = choice.get("finish_reason")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(text, str | None) or not all(type(num) is int and 0 <= num <= MOST_TOKENS for num in tokens):
        return None
    said = text if text or not isinstance(refusal, str) else refusal
    if said is not None:
        said = masked(said.encode(errors="replace").decode(), secrets)  # JSON may hold half of a surrogate pair
    return Reply(
        text=said,
        refused=bool(refusal) or reason == "content_filter",
        finished=reason != "length",
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
    )


def media_type(picture: bytes) -> str | None:
    """The type of an encoded picture among those that endpoints take."""
    return next((kind for signature, kind in TYPES if picture.startswith(signature)), None)


def _body(question: Question, settings: EndpointSettings) -> dict[str, object]:
    body: dict[str, object] = {
        "model": settings.model,
        "messages": [_message(message) for message in question.messages],
        settings.token_limit: question.max_tokens,
        "extra_body": dict(settings.extra),
    }
    given = {"temperature": question.temperature, "seed": question.seed}
    return body | {name: value for name, value in given.items() if value is not None}


def _message(message: Message) -> dict[str, object]:
    """One turn; text alone as a string, since some servers take nothing else."""
    if not any(isinstance(part, Image) for part in message.content):
        return {"role": message.role, "content": "\n".join(str(part) for part in message.content)}
    return {"role": message.role, "content": [_part(part) for part in message.content]}


def _part(part: str | Image) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    picture = picture_of(part)
    kind = media_type(picture)
    assert kind is not None, "pictures of questions are PNG, JPEG, GIF or WebP"
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{base64.b64encode(picture).decode()}"}}


def _taken(arrived: SimpleQueue[_Arrived | None]) -> list[_Arrived | None]:
    """What has arrived by now, after waiting a little for the first."""
    some: list[_Arrived | None] = []
    try:
        some.append(arrived.get(timeout=0.2))
        while True:
            some.append(arrived.get_nowait())
    except Empty:
        return some
