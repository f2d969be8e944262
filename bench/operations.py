"""Floating-point operations of one learning step in closed form, from shapes alone: ours, the twin's, the peer's, the
floor's.

A step is a list of matrix products; a product of [m, k] with [k, n] is 2 m k n operations, and nothing else is counted
(norms, softmax, optimiser). The dense contenders are counted by the rectangles of queries and keys that they form. The
floor forms none: prompt once, image once or kept, logits only where a token is scored, and attention only between
tokens that see each other. Knows nothing of torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """`times` products of [batch, rows, inner] with [batch, inner, columns]."""

    rows: int
    """Rows of the left factor."""
    inner: int
    """What is summed over."""
    columns: int
    """Columns of the right factor."""
    batch: int = 1
    """Products in one call."""
    times: int = 1
    """Calls."""

    @property
    def flop(self) -> int:
        """Multiplications and additions."""
        return 2 * self.times * self.batch * self.rows * self.inner * self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A decoder: gated MLP, grouped keys and values."""

    layers: int
    """Number of layers."""
    width: int
    """Hidden size."""
    mlp: int
    """MLP size."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads."""
    head_width: int
    """Width of a head."""
    vocabulary: int
    """Rows of the output head."""
    adapter_rank: int = 0
    """Rank of adapters on all linear layers; 0 trains the weights themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """An image encoder with its projector, for images of one size."""

    width: int
    """Hidden size."""
    mlp: int
    """MLP size."""
    gated: bool
    """Whether the MLP has three products instead of two."""
    heads: int
    """Attention heads."""
    patches: int
    """Patches of an image."""
    patch_values: int
    """Numbers in a patch."""
    tokens: int
    """Tokens of an image in the layers, a class token included."""
    spans: tuple[int, ...]
    """For each layer, how many keys a token sees."""
    features: int
    """Tokens that an image gives to the language model."""
    projector: tuple[tuple[int, int], ...]
    """Inner and outer size of the projector's linear layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One step: P prompts of one length, each with K answers of one length (end of turn included).

    Example: 8 pairs of 45 tokens on prompts of 281 tokens are prompts=8, prompt_tokens=281, answers=2,
    answer_tokens=45.
    """

    prompts: int
    """Prompts, one image each."""
    prompt_tokens: int
    """Tokens of a prompt, its image's included."""
    answers: int
    """Answers to each prompt."""
    answer_tokens: int
    """Tokens of an answer."""
    tower_trained: bool
    """Whether tower and projector learn."""
    keep_features: bool = False
    """Whether ours has the features already (frozen tower)."""
    keep_reference: bool = False
    """Whether ours has the reference's log-probs already."""

    @property
    def rows(self) -> int:
        """Answers of the step."""
        return self.prompts * self.answers


Rectangle = tuple[int, int, int]
"""(how many, queries, keys) of one attention product per layer."""


def flop(products: Iterable[Product]) -> int:
    """Operations of a list of products."""
    return sum(product.flop for product in products)


def ours(text: Text, tower: Tower, work: Work, rectangles: Sequence[Rectangle]) -> list[Product]:
    """The shared-prompt step; `rectangles` are those of its packed layout."""
    tokens = work.prompts * work.prompt_tokens + work.rows * (work.answer_tokens - 1)
    scored = work.rows * work.answer_tokens
    steps = [language(text, tokens, rectangles, scored, learn=True)]
    if work.tower_trained or not work.keep_features:
        steps.append(encode(tower, work.prompts, learn=work.tower_trained))
    if not work.keep_reference:
        steps.append(language(text, tokens, rectangles, scored, learn=False))
        if work.tower_trained:  # a frozen tower's features serve policy and reference
            steps.append(encode(tower, work.prompts, learn=False))
    return list(chain.from_iterable(steps))


def twin(text: Text, tower: Tower, work: Work) -> list[Product]:
    """The plain twin: a row per answer, image and prompt repeated, logits where scored; the reference likewise."""
    length = work.prompt_tokens + work.answer_tokens - 1
    return _rows(text, tower, work, length=length, scored=work.rows * work.answer_tokens, again=0)


def peer(text: Text, tower: Tower, work: Work, *, everywhere: bool) -> list[Product]:
    """TRL: a row per answer, its last token read too, logits made again in the backward pass.

    `everywhere`: its head scores every position of a row (without Triton, so on CPU), else the answers alone.
    """
    length = work.prompt_tokens + work.answer_tokens
    scored = work.rows * (length - 1 if everywhere else work.answer_tokens)
    return _rows(text, tower, work, length=length, scored=scored, again=1)


def floor(text: Text, tower: Tower, work: Work) -> int:
    """The least that the step's scores and gradients take when nothing is done twice; attention by visible pairs."""
    whole = flop(ours(text, tower, work, ()))
    prompt, answer = work.prompt_tokens, work.answer_tokens - 1
    pairs = work.prompts * (prompt * (prompt + 1) // 2)
    pairs += work.rows * (answer * prompt + answer * (answer + 1) // 2)
    passes = 3 + (0 if work.keep_reference else 1)
    return whole + passes * 4 * pairs * text.layers * text.heads * text.head_width


def language(
    text: Text, tokens: int, rectangles: Sequence[Rectangle], scored: int, *, learn: bool, again: int = 0
) -> list[Product]:
    """The decoder on some tokens, and its head on those that are scored (`again`: once more when learning)."""
    wide, key = text.heads * text.head_width, text.kv_heads * text.head_width
    shapes = [(text.width, wide), (text.width, key), (text.width, key), (wide, text.width)]
    shapes += [(text.width, text.mlp), (text.width, text.mlp), (text.mlp, text.width)]
    full = text.adapter_rank == 0
    found = []
    for inner, outer in shapes:
        found += linear(tokens, inner, outer, inputs=learn, weights=learn and full, times=text.layers)
        if not full:
            rank = text.adapter_rank
            found += linear(tokens, inner, rank, inputs=learn, weights=learn, times=text.layers)
            found += linear(tokens, rank, outer, inputs=learn, weights=learn, times=text.layers)
    for number, queries, keys in rectangles:
        group = text.heads // text.kv_heads
        found += attention(
            number * text.kv_heads, group * queries, keys, text.head_width, learn=learn, times=text.layers
        )
    found += linear(scored, text.width, text.vocabulary, inputs=learn, weights=learn and full)
    if learn and again:
        found += linear(scored, text.width, text.vocabulary, inputs=False, weights=False, times=again)
    return found


def encode(tower: Tower, images: int, *, learn: bool) -> list[Product]:
    """Tower and projector on some images."""
    found = linear(images * tower.patches, tower.patch_values, tower.width, inputs=False, weights=learn)
    shapes = [(tower.width, tower.width)] * 4 + [(tower.width, tower.mlp)] * (2 if tower.gated else 1)
    shapes.append((tower.mlp, tower.width))
    layers, tokens = len(tower.spans), images * tower.tokens
    for inner, outer in shapes:
        found += linear(tokens, inner, outer, inputs=learn, weights=learn, times=layers)
    for span in sorted(set(tower.spans)):
        number = tokens // span * tower.heads
        found += attention(number, span, span, tower.width // tower.heads, learn=learn, times=tower.spans.count(span))
    for inner, outer in tower.projector:
        found += linear(images * tower.features, inner, outer, inputs=learn, weights=learn)
    return found


def linear(rows: int, inner: int, outer: int, *, inputs: bool, weights: bool, times: int = 1) -> list[Product]:
    """A linear layer: forward, and the gradients that are wanted."""
    found = [Product(rows=rows, inner=inner, columns=outer, times=times)]
    if inputs:
        found.append(Product(rows=rows, inner=outer, columns=inner, times=times))
    if weights:
        found.append(Product(rows=outer, inner=rows, columns=inner, times=times))
    return found


def attention(batch: int, queries: int, keys: int, width: int, *, learn: bool, times: int = 1) -> list[Product]:
    """Scores and weighted values of `batch` heads; backward, two products for each."""
    scores = Product(batch=batch, rows=queries, inner=width, columns=keys, times=times)
    values = Product(batch=batch, rows=queries, inner=keys, columns=width, times=times)
    if not learn:
        return [scores, values]
    back = Product(batch=batch, rows=keys, inner=queries, columns=width, times=2 * times)
    return [
        Product(batch=batch, rows=queries, inner=width, columns=keys, times=2 * times),
        Product(batch=batch, rows=queries, inner=keys, columns=width, times=2 * times),
        back,
    ]


def _rows(text: Text, tower: Tower, work: Work, *, length: int, scored: int, again: int) -> list[Product]:
    rectangles = [(work.rows, length, length)]
    tokens = work.rows * length
    return [
        *language(text, tokens, rectangles, scored, learn=True, again=again),
        *encode(tower, work.rows, learn=work.tower_trained),
        *language(text, tokens, rectangles, scored, learn=False),
        *encode(tower, work.rows, learn=False),
    ]
