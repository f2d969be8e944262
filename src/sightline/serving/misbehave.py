"""A responder that errs on request, for tests of whoever talks to a server: errors, nonsense, refusals, slowness.

Whether an answer is nonsense is drawn from the seed and the request, so it stays the same however often it is asked;
whether a request fails is drawn anew at every try, so trying again helps.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from sightline.records import Image
from sightline.registry import did_you_mean
from sightline.serving.contract import Answer, ChatRequest, Choice, Failure, Respond

NONSENSE = ("Hmm, interesting picture!", "", '{"verdict":', "Rating: eleventy", "Verdict: both, in a way")
REFUSAL = "I'm sorry, but I can't help with that."


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehaviour:
    """How often what goes wrong. Example: `Misbehaviour(errors=0.05, malformed=0.05, seconds=0.2)`."""

    errors: float = 0.0
    """Share of requests that fail with 500, or with 429 and Retry-After."""
    broken: float = 0.0
    """Share of requests whose answer is half a JSON text."""
    malformed: float = 0.0
    """Share of questions that get nonsense for an answer."""
    refusals: float = 0.0
    """Share of questions that are declined."""
    seconds: float = 0.0
    """How long every answer is held back."""
    retry_after: float = 1.0
    """What a 429 asks for, in seconds."""
    seed: int = 0
    """Another seed errs elsewhere."""

    def __post_init__(self) -> None:
        """Shares are shares."""
        for name in ("errors", "broken", "malformed", "refusals"):
            share = asdict(self)[name]
            if not 0 <= share <= 1:
                raise ValueError(f"misbehave: {name} is {share:g}; give a share from 0 to 1")
        if self.seconds < 0 or self.retry_after < 0:
            raise ValueError("misbehave: seconds and retry_after are 0 or more; correct them")


def read_misbehaviour(values: Mapping[str, object]) -> Misbehaviour:
    """Settings from plain values; unknown names and what is no number are refused."""
    known = [field.name for field in fields(Misbehaviour)]
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"misbehave: there is no {name!r}{did_you_mean(name, known)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"misbehave: {name} is {json.dumps(value)}; give a number")
    return Misbehaviour(**values)  # type: ignore[arg-type] - checked above


def misbehaving(respond: Respond, how: Misbehaviour) -> Respond:
    """The responder, spoilt."""
    tries: Counter[bytes] = Counter()

    def spoilt(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        names = [_name(request) for request in requests]
        found: dict[int, Answer | Failure] = {}
        for number, (name, request) in enumerate(zip(names, requests, strict=True)):
            tries[name] += 1
            early = _instead(request, name, tries[name], how)
            if early is not None:
                found[number] = early
        asked = [request for number, request in enumerate(requests) if number not in found]
        answers = iter(respond(asked) if asked else [])
        given = [found[number] if number in found else next(answers) for number in range(len(requests))]
        return [_dressed(one, name, tries[name], how) for one, name in zip(given, names, strict=True)]

    return spoilt


def is_malformed(request: ChatRequest, how: Misbehaviour) -> bool:
    """Whether this question gets nonsense for an answer."""
    return _drawn(_name(request), "malformed", how) < how.malformed


def _instead(request: ChatRequest, name: bytes, num_tries: int, how: Misbehaviour) -> Answer | Failure | None:
    """What is said in place of an answer, if anything."""
    if _drawn(name, f"error {num_tries}", how) < how.errors:
        if _drawn(name, f"kind {num_tries}", how) < 0.5:
            return Failure(status=500, message="an error that was asked for")
        return Failure(status=429, message="a limit that was asked for", retry_after=how.retry_after)
    for kind, share, texts in (("malformed", how.malformed, NONSENSE), ("refusal", how.refusals, (REFUSAL,))):
        if _drawn(name, kind, how) < share:
            text = texts[int(_drawn(name, "which", how) * len(texts))]
            return Answer(choices=(Choice(text=text),) * request.num, prompt_tokens=1, completion_tokens=1)
    return None


def _dressed(given: Answer | Failure, name: bytes, num_tries: int, how: Misbehaviour) -> Answer | Failure:
    if isinstance(given, Failure):
        return replace(given, seconds=how.seconds)
    return replace(given, seconds=how.seconds, broken=_drawn(name, f"broken {num_tries}", how) < how.broken)


def _name(request: ChatRequest) -> bytes:
    """A hash of the conversation and its seed."""
    found = hashlib.sha256(str(request.seed).encode())
    for message in request.messages:
        for part in message.content:
            data = part.data if isinstance(part, Image) else part.encode(errors="replace")
            found.update(hashlib.sha256(data or b"").digest())
    return found.digest()


def _drawn(name: bytes, what: str, how: Misbehaviour) -> float:
    """A number from 0 to 1 that depends on nothing else."""
    drawn = hashlib.sha256(name + f"{how.seed}/{what}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64
