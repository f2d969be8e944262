"""Conversations answered by a model in this process, many at a time: for a local judge and for the serving room.

Conversations that are sampled alike share a batch. A reply depends on its own conversation and seed alone, not on its
company, up to rounding. Knows neither HTTP nor judges.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sightline.batch import PromptTokens
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.sampler import Sampled, SamplingParams, sample
from sightline.records import Message, Prompt, RecordError


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation that waits for its next turn.

    Example: `Chat(messages=messages, params=SamplingParams(temperature=0.7, seed=3), num=2)`.
    """

    messages: tuple[Message, ...]
    """What was said so far; the last turn is the user's."""
    params: SamplingParams
    """How the reply is drawn."""
    num: int = 1
    """How many replies."""
    with_logprobs: bool = False
    """Whether the log-probability of each token is wanted."""
    may_shorten: bool = False
    """Whether `max_tokens` may be lowered to what the model can still read after the conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One reply."""

    text: str
    """What was said, up to the first stop text."""
    finish_reason: str
    """"stop" or "length"."""
    num_tokens: int
    """Tokens that were drawn."""
    logprobs: tuple[tuple[str, float], ...] = ()
    """Each token's text and log-probability, when they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chatted:
    """The replies to one conversation, or why there are none."""

    replies: tuple[Said, ...] = ()
    """As many as were asked for."""
    num_prompt_tokens: int = 0
    """Tokens of the conversation, pictures included."""
    problem: str | None = None
    """What is wrong with the conversation."""


def chat(
    policy: Policy, inputs: Inputs, chats: Sequence[Chat], *, batch_size: int = 32
) -> Iterator[list[tuple[int, Chatted]]]:
    """Replies batch by batch, each with the number of its conversation; those that cannot be read come first."""
    good: dict[tuple[SamplingParams, int], list[tuple[int, PromptTokens]]] = {}
    bad: list[tuple[int, Chatted]] = []
    for number, one in enumerate(chats):
        try:
            # The seed stands in the prompt's name, which seeds its answers: so unlike seeds share a batch.
            tokens = inputs.prompt(Prompt(id=str(one.params.seed), messages=one.messages))
            max_tokens = _fitting(policy, tokens, one)
        except RecordError as error:
            bad.append((number, Chatted(problem=f"{error.problem}; {error.cure}")))
        else:
            params = replace(one.params, seed=0, max_tokens=max_tokens)
            good.setdefault((params, one.num), []).append((number, tokens))
    if bad:
        yield bad
    for (params, num), rows in good.items():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            prompts = [tokens for _, tokens in part]
            found = sample(policy, prompts, num=num, params=params, ends=inputs.ends, text=inputs.text)
            yield [
                (number, _chatted(inputs, chats[number], tokens, answers))
                for (number, tokens), answers in zip(part, found, strict=True)
            ]


def _chatted(inputs: Inputs, asked: Chat, tokens: PromptTokens, answers: Sequence[Sampled]) -> Chatted:
    replies = tuple(_said(inputs, asked, answer) for answer in answers)
    return Chatted(replies=replies, num_prompt_tokens=len(tokens.ids))


def _said(inputs: Inputs, asked: Chat, answer: Sampled) -> Said:
    whole = inputs.text(answer.token_ids)
    text = whole[: min((place for stop in asked.params.stop if (place := whole.find(stop)) >= 0), default=len(whole))]
    logprobs: list[tuple[str, float]] = []
    if asked.with_logprobs:
        start = 0
        for end, logprob in zip(inputs.text_ends(answer.token_ids), answer.logprobs, strict=True):
            if end > start and start < len(text):
                logprobs.append((whole[start:end], logprob))
            start = max(start, end)
    return Said(
        text=text,
        finish_reason=answer.finish_reason,
        num_tokens=len(answer.token_ids),
        logprobs=tuple(logprobs),
    )


def _fitting(policy: Policy, tokens: PromptTokens, asked: Chat) -> int:
    """The most tokens of a reply; RecordError when the conversation leaves too little room."""
    longest = policy.model.config.get_text_config().to_dict().get("max_position_embeddings")
    wanted, length = asked.params.max_tokens, len(tokens.ids)
    if longest is None or length + wanted <= longest:
        return wanted
    if asked.may_shorten and length < longest:
        return longest - length
    problem = f"has {length} tokens and asks for {wanted} more; the model reads {longest}"
    raise RecordError("messages", problem, "shorten it, or lower max_tokens")
