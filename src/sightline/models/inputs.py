"""From records to tokens and images: the rendered prompt, placeholders expanded, answers with their end of turn.

Prompt and answer are tokenised apart; stored `token_ids` are used as they are. Nothing is truncated here: what is
too long is refused where lengths are checked.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError

from sightline.batch import ImageInput, PromptTokens
from sightline.data.images import ImageStore
from sightline.models.families import Family, Look
from sightline.models.families.family import Bounds
from sightline.models.turns import Turns
from sightline.records import Completion, Image, Prompt, RecordError


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureLimits:
    """Bounds on the picture as the model sees it; None leaves a bound out. The model's own processor keeps them in the
    one resizing that it makes anyway, so that no picture is resampled twice."""

    min_pixels: int | None = None
    """Smaller pictures are enlarged to this area."""
    max_pixels: int | None = None
    """Larger pictures are reduced to this area."""
    longest_side: int | None = None
    """Longer pictures are reduced to this side."""

    @property
    def any(self) -> bool:
        """Whether there is a bound."""
        return any(bound is not None for bound in (self.min_pixels, self.max_pixels, self.longest_side))

    def bounds(self, width: int, height: int) -> Bounds:
        """Least and most pixels of a picture of this size, whose aspect is kept."""
        most = [] if self.max_pixels is None else [self.max_pixels]
        if self.longest_side is not None:
            most.append(math.floor(width * height * (self.longest_side / max(width, height)) ** 2))
        return self.min_pixels or 0, max(1, min(most)) if most else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a picture takes in a prompt, without its pixels."""

    text: str
    """What stands for it in the prompt's text."""
    num_tokens: int
    """Soft tokens in it."""
    grid: tuple[int, ...]
    """How the family lays it out."""
    sizes: tuple[tuple[int, int], tuple[int, int]]
    """Width and height as stored, and of the frame that the model sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Turns prompts and answers into what a policy scores. One per model; holds no pixels."""

    processor: Any
    """The model's own processor."""
    family: Family
    """The model's family."""
    turns: Turns
    """How its chat template writes an answer."""
    store: ImageStore
    """Opens images."""
    limits: PictureLimits = field(default_factory=PictureLimits)
    """Bounds on pictures."""
    vocabulary: int | None = None
    """Tokens that the model knows; None where no stored tokens are read."""
    settings_hash: str = field(init=False)
    """Hash of everything that decides how a picture becomes pixels."""
    known: dict[str, "Known"] = field(default_factory=dict, init=False)
    """What is kept of each image that was seen, by key, so that a picture is opened only to be encoded."""

    def __post_init__(self) -> None:
        """Hash the settings once, and refuse bounds that would only blur pictures."""
        if self.limits.any and self.family.within is None:
            raise ValueError(
                f"model.max_pixels, min_pixels and longest_side bound pictures whose size the model follows, and "
                f"{self.family.name}'s processor gives every picture the same frames, whatever its size; leave them out"
            )
        settings = {"processor": self.processor.image_processor.to_dict(), "limits": repr(self.limits)}
        found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
        object.__setattr__(self, "settings_hash", found[:16])

    def render(self, prompt: Prompt, *, answer: str | None = None) -> str:
        """The prompt as the chat template writes it, one marker per image; with an answer, the whole conversation."""
        if prompt.messages[-1].role == "assistant":
            problem = f"the last turn of prompt {prompt.id!r} is the assistant's own"
            raise RecordError("prompt.messages", problem, "end with the user; what the assistant says is a completion")
        messages = [{"role": m.role, "content": [self._part(prompt, p) for p in m.content]} for m in prompt.messages]
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        try:
            return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)
        except TemplateError as error:
            problem = f"the model's chat template does not take prompt {prompt.id!r}: {error}"
            raise RecordError("prompt.messages", problem, "write the turns as it wants them") from error

    def prompt(self, prompt: Prompt) -> PromptTokens:
        """The prompt as tokens, each image as many placeholders as it has features."""
        images = tuple(self.image(image, alone=len(prompt.images) == 1) for image in prompt.images)
        tokenizer = self.processor.tokenizer
        pieces = self.render(prompt).split(self.family.marker(tokenizer))
        if len(pieces) - 1 != len(images):
            raise RecordError(
                "prompt.messages",
                f"the chat template made {len(pieces) - 1} placeholders of {len(images)} images",
                "use a template that writes one placeholder per image",
            )
        spelled = (self.known[image.key].text for image in images)
        text = pieces[0] + "".join(part for pair in zip(spelled, pieces[1:], strict=True) for part in pair)
        special = tokenizer.bos_token is None or not text.startswith(tokenizer.bos_token)
        return PromptTokens(
            id=prompt.id, ids=tuple(tokenizer(text, add_special_tokens=special).input_ids), images=images
        )

    def image(self, image: Image, *, alone: bool) -> ImageInput:
        """The image by content, its pixels made on demand; some families read it otherwise when it is not alone."""
        alone = alone or not self.family.company
        key = f"{self.store.key(image)}-{self.settings_hash}{'' if alone else '-together'}"
        load = self._loader(image, alone)
        if key not in self.known:
            look = load()
            text = self.family.spell(self.processor, look)
            ids = self.processor.tokenizer(text, add_special_tokens=False).input_ids
            sizes = (self.store.size(image), look.size)
            self.known[key] = Known(text=text, num_tokens=ids.count(self.soft_token), grid=look.grid, sizes=sizes)
        known = self.known[key]
        return ImageInput(key=key, num_tokens=known.num_tokens, load=lambda: load().pixels, grid=known.grid)

    def sizes(self, image: Image) -> tuple[tuple[int, int], tuple[int, int]]:
        """Width and height of the picture as stored, and of the frame that the model sees."""
        return self.known[self.image(image, alone=True).key].sizes

    @property
    def soft_token(self) -> int:
        """Id of the token whose places the features of images take."""
        tokenizer = self.processor.tokenizer
        return int(tokenizer.convert_tokens_to_ids(self.family.soft_token(tokenizer)))

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens at which an answer ends; the first is the one that is learned."""
        return self.turns.ends

    @property
    def end_of_turn(self) -> int:
        """Token with which a learned answer ends."""
        return self.turns.ends[0]

    def answer(self, completion: Completion, *, where: str = "completions") -> tuple[int, ...]:
        """The answer's tokens: as sampled when they were kept, else of its text as the template writes it, with its
        end. `where` is the answer's place in its row, for errors."""
        if completion.token_ids is None:
            if not completion.text.strip():
                raise RecordError(where, "an answer is empty", "remove the row or write what was answered")
            self._refuse_spelled(completion.text, where)
            return self.turns.tokens(completion.text)
        kept = completion.token_ids
        if self.vocabulary is not None and max(kept, default=0) >= self.vocabulary:
            problem = f"token_ids hold {max(kept)}, and the model knows {self.vocabulary:,} tokens"
            raise RecordError(where, problem, "leave token_ids out, or use the model that gave the answer")
        cure = "take it out of the answer: it is no text"
        for token in (*kept[:-1], *(token for token in kept[-1:] if token in self.turns.media)):
            if token in self.turns.media:
                raise RecordError(where, f"holds {self._word(token)!r}, which stands for a picture or a video", cure)
            if token in self.ends:
                raise RecordError(where, f"holds {self._word(token)!r} inside, which ends an answer", cure)
        return kept

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens, without its end and what the template writes around it."""
        return self.turns.text(ids)

    def text_ends(self, ids: Sequence[int]) -> list[int]:
        """Characters of an answer's text after each of its tokens."""
        return [len(self.text(ids[: number + 1])) for number in range(len(ids))]

    def _loader(self, image: Image, alone: bool) -> Callable[[], Look]:
        def load() -> Look:
            picture = self.store.open(image)
            if self.family.within is None or not self.limits.any:
                return self.family.look(self.processor, picture, alone)
            return self.family.within(self.processor, picture, alone, self.limits.bounds(*picture.size))

        return load

    def _word(self, token: int) -> str:
        return self.processor.tokenizer.convert_ids_to_tokens(token)

    def _refuse_spelled(self, answer: str, where: str) -> None:
        """Text whose tokens would not be text: the tokenizer reads these words whole wherever they stand."""
        for tokens, means in ((self.turns.media, "stands for a picture or a video"), (self.ends, "ends an answer")):
            for word in map(self._word, tokens):
                if word in answer:
                    raise RecordError(where, f"spells {word!r}, which {means}", "take it out of the answer's text")

    def _part(self, prompt: Prompt, part: str | Image) -> dict[str, str]:
        if isinstance(part, Image):
            return {"type": "image"}
        tokenizer = self.processor.tokenizer
        spelled = map(self._word, self.turns.media)
        for media in (self.family.marker(tokenizer), self.family.soft_token(tokenizer), *spelled):
            if media in part:
                raise RecordError(
                    "prompt.messages",
                    f"the text of prompt {prompt.id!r} spells {media!r}",
                    "put the image into the message's parts and remove the placeholder from the text",
                )
        return {"type": "text", "text": part}
