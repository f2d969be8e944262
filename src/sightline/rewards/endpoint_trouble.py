"""What went wrong with a request to an endpoint, in words: whether to try again, whether to stop, and the cure.

Knows the `openai` client's errors and the habits of servers that speak its protocol; what they say is quoted short.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time

import openai

from sightline.rewards.bounded_http import BadResponse
from sightline.rewards.masking import masked

TRANSIENT = (408, 409, 425, 429)
_IMAGES = re.compile(r"image|vision|multi-?modal|valid string|str type", re.IGNORECASE)
_NOT = re.compile(r"\bno[tn]?\b|n['’]t\b|unsupported|missing|disabled", re.IGNORECASE)
_NO_CREDIT = re.compile(r"insufficient[_ ](?:quota|credits?|balance|funds)|billing|payment", re.IGNORECASE)
_FILTERED = ("content_filter", "content_policy_violation")
_SHOWN = 200
_READ = 2**14
"""Characters of what a server says that are looked at."""
_TAG = re.compile(r"<[^<>]*>")  # never behind another <, so that a million of them cost no square


class EndpointError(ValueError):
    """An endpoint that cannot be used as the recipe says; one sentence with the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One failed request. Example: `Trouble(problem="answers 503 (overloaded)", again=True)`."""

    problem: str
    """What happened, as the end of "the endpoint ..."."""
    again: bool = False
    """Whether trying again may help."""
    after: float | None = None
    """Seconds that the server asks to wait."""
    cure: str | None = None
    """What to do, when no further request can succeed before that is done."""
    reached: bool = True
    """Whether a server answered at all."""
    refused: bool = False
    """Whether the question itself was turned away for what it says or shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known when a request fails."""

    url: str
    """Base URL."""
    model: str
    """Name of the model."""
    proven: bool
    """Whether the endpoint has answered before, so that address, key and fields are right."""
    blind: bool
    """Whether the question has pictures, and none with pictures was ever answered."""
    secrets: Sequence[str] = ()
    """What must not be shown of what is quoted."""


def trouble_of(error: openai.OpenAIError, now: Situation) -> Trouble:
    """What an error of the client means."""
    if isinstance(error, openai.APITimeoutError):
        return Trouble(problem="did not answer in time", again=True, reached=False)
    if isinstance(error, openai.APIConnectionError):
        return Trouble(problem=f"cannot be reached ({_root(error, now)})", again=True, reached=False)
    if isinstance(error, BadResponse):
        return Trouble(problem=f"answers with {error}", again=True, reached=False)
    if not isinstance(error, openai.APIStatusError):
        return Trouble(problem=f"cannot be asked ({short(str(error), now.secrets)})", cure="see docs/judges.md")
    status, said = error.status_code, _said(error, now)
    problem, words = f"answers {status} ({said})", f"{error.code} {said}"
    if error.code in _FILTERED:
        return Trouble(problem=problem, refused=True)
    if cure := _cure_for_account(status, words) or _cure_for_pictures(status, words, now):
        return Trouble(problem=problem, cure=cure)
    if status in TRANSIENT or status >= 500:
        return Trouble(problem=problem, again=True, after=_after(error.response.headers))
    return Trouble(problem=problem, cure=None if now.proven else _cure_for_fields(status, words, now))


def _cure_for_account(status: int, said: str) -> str | None:
    if status == 402 or (status == 429 and _NO_CREDIT.search(said)):
        return "the account has no credit left: the same command goes on when it has"
    if status in (401, 403):
        return "set judge.api_key_env to the name of an environment variable that holds a key for it"
    return None


def _cure_for_pictures(status: int, said: str, now: Situation) -> str | None:
    told = _IMAGES.search(said) and (status < 500 or (status <= 501 and _NOT.search(said)))
    if now.blind and told and status not in (*TRANSIENT, 413):
        return f"model {now.model!r} seems to take no pictures: name one that sees, or check how it is served"
    return None


def _cure_for_fields(status: int, said: str, now: Situation) -> str | None:
    """What in the recipe is wrong; None where it may be this one question."""
    if status == 404 and re.search(r"\bmodel\b", said, re.IGNORECASE):
        return f"correct judge.model, which is {now.model!r}"
    if status in (404, 405) or 300 <= status < 400:
        end = "" if now.url.rstrip("/").endswith("/v1") else ", which usually ends in /v1"
        return f"correct judge.base_url{end}"
    if "max_completion_tokens" in said:
        return "set judge.token_limit to max_completion_tokens"
    if re.search(r"\btemperature\b", said, re.IGNORECASE):
        return "set temperature to null, for the server's own"
    return None


def short(text: str, secrets: Sequence[str]) -> str:
    """What somebody said in one line without marks, for quoting; masked before it is cut."""
    plain = " ".join(_TAG.sub(" ", masked(text, secrets)[:_READ]).split()).rstrip(".")
    return plain if len(plain) <= _SHOWN else f"{plain[: _SHOWN - 3]}..."


def _said(error: openai.APIStatusError, now: Situation) -> str:
    """The server's own words, without the client's frame around them."""
    body, response = error.body, error.response
    told = body.get("message") if isinstance(body, Mapping) else None
    if 300 <= error.status_code < 400:
        told = f"moved to {response.headers.get('location', 'nowhere')}"
    return short(told if isinstance(told, str) and told else response.text or "no reason given", now.secrets)


def _root(error: BaseException, now: Situation) -> str:
    """The reason below the client's "Connection error."."""
    while error.__cause__ is not None:
        error = error.__cause__
    return short(str(error), now.secrets) or type(error).__name__


def _after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds, given as milliseconds, as seconds or as a date; None when it is none of these."""
    exact, given = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    found, plain = _number(exact), _number(given)
    if found is not None:
        return found / 1000
    if plain is not None or not given:
        return plain
    try:
        return max(parsedate_to_datetime(given).timestamp() - time(), 0.0)
    except (ValueError, TypeError, LookupError, OverflowError):  # what email.utils raises on dates that are none
        return None


def _number(text: str) -> float | None:
    """A number of 0 or more, endless ones too; None for what is no number."""
    try:
        found = float(text)
    except ValueError:
        return None
    return None if math.isnan(found) else max(found, 0.0)
