"""What the room asks of one who responds: chat requests in, as many answers or failures out, in order.

A responder is called by one thread, with all requests that have arrived together; it knows neither HTTP nor JSON.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sightline.records import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One request for a chat completion, checked and with its pictures opened once.

    Example: `ChatRequest(messages=(Message(role="user", content=("Hello",)),), max_tokens=16, temperature=0.0)`.
    """

    messages: tuple[Message, ...]
    """The conversation; every image carries its encoded file."""
    max_tokens: int
    """Each choice is cut here."""
    may_shorten: bool = False
    """Whether that may be less, where the client named no number and the model cannot read so much."""
    num: int = 1
    """How many choices."""
    temperature: float = 1.0
    """0 takes the most probable token each time."""
    top_p: float = 1.0
    """Draw from the most probable tokens that together hold this much probability."""
    stop: tuple[str, ...] = ()
    """Texts before which a choice ends."""
    seed: int | None = None
    """Of the draws; None: another one every time."""
    with_logprobs: bool = False
    """Whether the log-probability of each token is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One completion."""

    text: str
    """What was said."""
    finish_reason: str = "stop"
    """"stop", or "length" when it was cut."""
    logprobs: tuple[tuple[str, float], ...] = ()
    """Text and log-probability of each token, where they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The completions of one request. Example: `Answer(choices=(Choice(text="yes"),), prompt_tokens=70)`."""

    choices: tuple[Choice, ...]
    """As many as were asked for."""
    prompt_tokens: int = 0
    """Tokens of the conversation."""
    completion_tokens: int = 0
    """Tokens of all choices together."""
    seconds: float = 0.0
    """How long the answer is held back."""
    broken: bool = False
    """Send it as half a JSON text; for tests of clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no answer, as the client is told. Example: `Failure(status=429, message="too many requests")`."""

    status: int
    """Of HTTP."""
    message: str
    """A sentence, with the cure where there is one."""
    code: str | None = None
    """A word for programs, such as "context_length_exceeded"."""
    param: str | None = None
    """The field of the request that is wrong."""
    retry_after: float | None = None
    """Seconds after which to try again."""
    seconds: float = 0.0
    """How long it is held back."""


Respond = Callable[[Sequence[ChatRequest]], list[Answer | Failure]]
