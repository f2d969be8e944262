"""How a checkpoint's chat template writes an answer: what stands around its text, and where it ends.

A learned answer is what the template adds to the rendered prompt when the answer is rendered behind it, up to the
token that ends the turn, which is learned too. So a space that the template writes between `Assistant:` and the
answer is the model's to say, as it was when the checkpoint was made. Where a template opens the turn otherwise behind
a conversation than at the end of a prompt, an answer begins with its own text. Knows no pictures and no records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

QUESTION = "1"
SAID = "2"
"""A question and an answer by which a template shows what it writes; digits, which none rewrites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What is known of a template's answers.

    Example: Idefics3 ends a prompt in `Assistant:` and writes `Assistant: Yes.<end_of_utterance>` behind it, so
    `before` is a space, `after` is empty, and `ends[0]` is the id of `<end_of_utterance>`.
    """

    processor: Any
    """Tokenizer and chat template."""
    prompt: str
    """A short question ready to be answered, as the template writes it."""
    prompt_ids: tuple[int, ...]
    """Its tokens."""
    ends: tuple[int, ...]
    """Tokens at which sampling ends; learned answers end with the first."""
    media: tuple[int, ...]
    """Tokens that no answer can hold."""
    before: str
    """What the template writes between the prompt and the answer's text."""
    after: str
    """What it writes between the answer's text and its end."""
    tail: str
    """All that it writes behind the answer's text."""
    opening: tuple[str, str] | None = None
    """What the end of a prompt and a conversation open an answer with, where they differ."""
    named: tuple[int, ...] = ()
    """The end tokens that the checkpoint names."""

    def written(self, answer: str) -> str:
        """The answer as the template writes it behind a prompt, up to its end."""
        body = rendered(self.processor, answer).removesuffix(self.tail)
        if self.opening is None and body.startswith(self.prompt):
            return body[len(self.prompt) :] + self.after
        own = answer if body.endswith(answer) else answer.strip()  # some templates trim
        return own + self.after

    def tokens(self, answer: str) -> tuple[int, ...]:
        """The answer's tokens with its end: those behind the prompt's, where the prompt's stay what they are."""
        said, num_before = self.written(answer), len(self.prompt_ids)
        together = _ids(self.processor, self.prompt + said)
        ids = together[num_before:] if together[:num_before] == self.prompt_ids else _ids(self.processor, said)
        return (*ids, self.ends[0])

    def text(self, ids: Sequence[int]) -> str:
        """What a reader sees of an answer's tokens: without its end and what the template writes around it."""
        shown = [token for token in ids if token not in self.ends]
        said = self.processor.tokenizer.decode(shown, skip_special_tokens=True)
        if len(shown) < len(ids):
            said = said.removesuffix(self.after)
        return "" if self.before.startswith(said) else said.removeprefix(self.before)


def rendered(processor: Any, answer: str | None) -> str:
    """A short question ready to be answered, or with this answer behind it."""
    said = [("user", QUESTION)] + ([] if answer is None else [("assistant", answer)])
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
    return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)


def turns_of(processor: Any, *, named: Sequence[int], media: Sequence[int]) -> Turns:
    """What a template writes around answers; `named` are the end tokens of the checkpoint's generation settings."""
    try:
        prompt, whole = rendered(processor, None), rendered(processor, SAID)
    except TemplateError as error:
        raise ValueError(
            f"the chat template cannot write a question and its answer ({error}); give the checkpoint one that takes a "
            "user's turn and an assistant's"
        ) from error
    body, _, tail = whole.rpartition(SAID)
    alike = next((n for n, letter in enumerate(prompt) if body[n : n + 1] != letter), len(prompt))
    behind = _ids(processor, tail)
    special = set(processor.tokenizer.all_special_ids)
    special |= {token for token, one in processor.tokenizer.added_tokens_decoder.items() if one.special}
    end = next((token for token in behind if token in named), None)
    end = next((token for token in behind if token in special), None) if end is None else end
    after = "" if end is None else tail.partition(processor.tokenizer.convert_ids_to_tokens(end))[0]
    eos = processor.tokenizer.eos_token_id
    fallback = [eos] if eos is not None and (eos in named or not named) else []
    known: list[int] = [*([] if end is None else [end]), *fallback, *named]
    ends = tuple(dict.fromkeys(known))
    if not ends:
        raise ValueError(
            "the checkpoint names no end token and its chat template writes none behind an answer, so that answers "
            "would never end; set eos_token_id in its generation_config.json, or eos_token in its tokenizer_config.json"
        )
    return Turns(
        processor=processor,
        prompt=prompt,
        prompt_ids=_ids(processor, prompt),
        ends=ends,
        media=tuple(media),
        before=body[len(prompt) :] if alike == len(prompt) else "",
        after=after,
        tail=tail,
        opening=None if alike == len(prompt) else (prompt[alike:], body[alike:]),
        named=tuple(named),
    )


def _ids(processor: Any, text: str) -> tuple[int, ...]:
    return tuple(processor.tokenizer(text, add_special_tokens=False).input_ids)
