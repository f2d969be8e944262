"""The one forward: log-probabilities of answers, prompt once, each image once; and its plain twin.

`Policy.score` lays a batch out as a packed tree and computes what is wanted at scored tokens only.
`score_plain` is the slow, obviously right version: one row per answer, image and prompt repeated, padded. Tests and
the first batch of every run hold the two together. Knows nothing of losses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sightline.batch import Batch, PromptTokens, Scores, make_batch
from sightline.models.attention import PLANNED, AttentionPlan, TreePlan, attention_of, windows_of
from sightline.models.families import Family
from sightline.models.heads import AGREEMENTS, LIKELIHOODS, Critic, RatingHead
from sightline.models.layout import Layout, pack
from sightline.models.products import logits_in_float32
from sightline.models.sharding import Sharding
from sightline.models.vision import Vision

CHUNK_ELEMENTS = 2**25
SUMMED_OVER = 16.0
"""Sums over an answer's tokens are divided by this, so that they are of the size of one token's."""


class Policy:
    """A model that scores answers. State: the model, and the vision features that are kept."""

    def __init__(
        self,
        model: Any,
        family: Family,
        *,
        autocast: torch.dtype | None = None,
        temperature: float = 1.0,
        keep_feature_bytes: int = 2**30,
        keep_batch: int = 1,
        critic: Critic | None = None,
        rating: RatingHead | None = None,
    ) -> None:
        """Images whose features are kept are encoded `keep_batch` at a time; 1 makes features independent of company,
        which bit-for-bit resume needs, more is faster when nothing is trained."""
        self.model = model
        self.family = family
        self.vision = Vision(
            model, family, keep_bytes=keep_feature_bytes, keep_batch=keep_batch, precision=self.precision
        )
        self.autocast = autocast
        self.critic = critic
        self.rating = rating
        self.sharding: Sharding | None = None
        self.windows = windows_of(family.language_model(model).config)  # type: ignore[arg-type]
        self.own: Callable[[Batch], Tensor] | None = None
        """How answers agree with what the model says itself [N, AGREEMENTS]; for rating heads (own_answers)."""
        self.one_thread_below: float | None = None
        """Operations of a layer below which answers are decoded on one thread; None: as measured in this process."""
        self.temperature = temperature
        """Log-probabilities are those of logits divided by this."""
        banned = torch.zeros(family.head(model).weight.shape[0], dtype=torch.bool)  # type: ignore[union-attr]
        banned[list(family.media_tokens(model.config))] = True
        self._banned = banned

    def score(self, batch: Batch, *, want: frozenset[str] = frozenset({"logprobs"})) -> Scores:
        """What is wanted of every scored answer token ("logprobs", "entropy", "values") and of every answer
        ("ratings"), prompt and image once."""
        if batch.num_answers == 0:  # a process may have no groups in a step
            nothing = torch.zeros(batch.tokens.shape, device=next(self.model.parameters()).device)
            none_rated = None if self.rating is None else nothing.new_zeros(0, self.rating.size)
            if self.sharding is not None and not self.sharding.together:  # others have something to score
                passed = self._idle()
                nothing, none_rated = nothing + passed, None if none_rated is None else none_rated + passed
            given = {name: nothing if name in want else None for name in ("entropy", "values")}
            return Scores(logprobs=nothing, ratings=none_rated if "ratings" in want else None, **given)
        if self.sharding is None:
            return self._score(batch, want)
        sharding = self.sharding
        return Scores(**sharding.run(lambda: _anchored(self._score(batch, want), sharding)))

    def shard(self) -> None:
        """Cut the weights over the processes of the run: each holds its part."""
        if self.critic is not None and self.critic.model is not None:
            raise ValueError("train.shard cuts one model; set critic.separate: false")
        self.sharding = self.vision.sharding = Sharding(self.model, self.family)

    def _idle(self) -> Tensor:
        """Zero, after a pass through the model."""
        token = int((~self._banned).nonzero()[0])
        batch = make_batch([PromptTokens(id="idle", ids=(token, token))], [[(token,)]])
        return 0.0 * self.score(batch).logprobs.sum()

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """All weights in this process, to read without gradient; all processes must enter."""
        with nullcontext() if self.sharding is None else self.sharding.whole_weights():
            yield

    def _score(self, batch: Batch, want: frozenset[str]) -> Scores:
        layout = self.lay_out(batch)
        with self.precision():
            embeddings, plan = self.embed(layout, batch), TreePlan(layout=layout, windows=self.windows)
            scored = layout.predicting[batch.mask.to(embeddings.device)]
            every = self.run(embeddings, layout.positions, plan)
            states = critic_states = every[scored]
            if "values" in want and self.critic is not None and self.critic.model is not None:
                own = self.embed(layout, batch, model=self.critic.model)
                critic_states = self.run(own, layout.positions, plan, model=self.critic.model)[scored]
            ends = every[layout.predicting[_whole(batch).to(every.device)]] if "ratings" in want else None
            return self._read(states, critic_states, batch, want, ends)

    def gathered(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What rating heads read of every answer: states [N, 3, width] and evidence [N, EVIDENCE], in float32."""
        layout = self.lay_out(batch)
        with self.precision():
            plan = TreePlan(layout=layout, windows=self.windows)
            every = self.run(self.embed(layout, batch), layout.positions, plan)
            return self._gather(every[layout.predicting[_whole(batch).to(every.device)]], batch)

    def score_plain(
        self, batch: Batch, *, want: frozenset[str] = frozenset({"logprobs"}), kernel: str = "sdpa"
    ) -> Scores:
        """The same by the model's own forward and attention kernel: one padded row per answer, everything repeated."""
        ids, attention, predicting = plain_rows(batch)
        device = next(self.model.parameters()).device
        prompts = [batch.prompts[row] for row in batch.group.tolist()]
        given = self.family.plain(self.model.config, ids, prompts)
        config = self.family.language_model(self.model).config
        rows = torch.arange(batch.num_answers)[:, None].expand_as(predicting)

        def states_of(model: Any) -> Tensor:
            return model.model(
                input_ids=ids.to(device),
                attention_mask=attention.to(device),
                use_cache=False,
                **{name: value.to(device) for name, value in given.items()},
            ).last_hidden_state

        with self.precision(), attention_of(config, kernel):  # type: ignore[arg-type] - nn.Module types .config as a Tensor
            every = states_of(self.model)
        states = critic_states = every[rows[batch.mask], predicting[batch.mask]]
        if "values" in want and self.critic is not None and self.critic.model is not None:
            config = self.family.language_model(self.critic.model).config
            with self.precision(), attention_of(config, kernel):  # type: ignore[arg-type] - nn.Module types .config as a Tensor
                critic_states = states_of(self.critic.model)[rows[batch.mask], predicting[batch.mask]]
        ends = every[rows[_whole(batch)], predicting[_whole(batch)]] if "ratings" in want else None
        with self.precision():
            return self._read(states, critic_states, batch, want, ends)

    def in_float32(self) -> "Policy":
        """The same model scored without autocast, with features of its own."""
        twin = Policy(
            self.model,
            self.family,
            temperature=self.temperature,
            keep_feature_bytes=0,
            critic=self.critic,
            rating=self.rating,
        )
        twin.own = self.own
        return twin

    def lay_out(self, batch: Batch) -> Layout:
        """The packed layout of a batch, where the model is; raises when an answer holds a media token."""
        family, config = self.family, self.model.config
        spelled = (self._banned[batch.tokens] & _whole(batch)).any(1)
        if bool(spelled.any()):
            where = batch.prompts[int(batch.group[int(spelled.nonzero()[0])])].id
            raise ValueError(
                f"an answer to prompt {where!r} holds a media token, which no answer can be; take it out of the answer"
            )
        layout = pack(
            batch,
            image_token=family.image_token(config),
            positions=None if family.positions is None else partial(family.positions, config),
            joined=None if family.joined is None else partial(family.joined, config),
        )
        return layout.to(next(self.model.parameters()).device)

    def run(self, embeddings: Tensor, positions: Tensor, plan: AttentionPlan, *, model: Any | None = None) -> Tensor:
        """Hidden states [L, width] of one packed sequence that attends by a plan; of the critic's model if given.

        `embeddings` are as `embed` gives them, with deep features beside them where the family has some.
        """
        language_model = self.family.language_model(self.model if model is None else model)
        first, *deep = embeddings[None].split(language_model.config.hidden_size, -1)  # type: ignore[union-attr]
        entering = self.family.deep(deep) if deep and self.family.deep is not None else {}
        with attention_of(language_model.config, PLANNED):  # type: ignore[arg-type]
            return language_model(
                inputs_embeds=first,
                position_ids=positions.unsqueeze(-2).to(embeddings.device),
                use_cache=False,
                plan=plan,
                **entering,
            ).last_hidden_state[0]

    def logits(self, states: Tensor, temperature: float) -> Tensor:
        """Tempered logits [rows, vocabulary] in float32; media tokens at minus infinity."""
        logits = logits_in_float32(self.family.head(self.model), states) / temperature
        return logits.masked_fill(self._banned.to(states.device), float("-inf"))

    def embed(self, layout: Layout, batch: Batch, *, model: Any | None = None) -> Tensor:
        """Input embeddings of the packed sequence with the images' features, the policy's, in their places.

        [L, width]; with deep features [L, (1 + deep) width], zero where no image is.
        """
        language_model = self.family.language_model(self.model if model is None else model)
        table = language_model.get_input_embeddings()  # type: ignore[operator] - nn.Module types methods as Tensors
        embeddings = table(layout.tokens)
        features = self.vision.features([image for prompt in batch.prompts for image in prompt.images])
        if not layout.images:
            return embeddings
        places = torch.cat([place for _, place in layout.images])
        values = torch.cat([features[key] for key, _ in layout.images]).to(embeddings.dtype)
        first, *deep = values.split(embeddings.shape[1], 1)
        empty = torch.zeros_like(embeddings)
        levels = [embeddings.index_copy(0, places, first), *(empty.index_copy(0, places, level) for level in deep)]
        return torch.cat(levels, 1) if deep else levels[0]

    @contextmanager
    def precision(self) -> Iterator[None]:
        """The run's arithmetic: autocast when it was asked for."""
        device = next(self.model.parameters()).device.type
        # kept casts of weights that are put together for one pass would keep them all
        kept = self.sharding is None
        with nullcontext() if self.autocast is None else torch.autocast(device, self.autocast, cache_enabled=kept):
            yield

    def _read(
        self, states: Tensor, critic_states: Tensor, batch: Batch, want: frozenset[str], whole: Tensor | None
    ) -> Scores:
        """`states` are those that predict scored tokens, `whole` those that predict any token of an answer."""
        logprobs = torch.zeros(batch.tokens.shape, device=states.device)
        entropy = None
        if want & {"logprobs", "entropy"}:
            targets = batch.tokens[batch.mask].to(states.device)
            head, banned = self.family.head(self.model), self._banned.to(states.device)
            read, entropies = read_tokens(states, head, targets, banned, self.temperature, "entropy" in want)
            logprobs = _spread(read, batch.mask)
            entropy = None if entropies is None else _spread(entropies, batch.mask)
        return Scores(
            logprobs=logprobs,
            entropy=entropy,
            values=_spread(self.critic.head(critic_states), batch.mask) if "values" in want and self.critic else None,
            ratings=None if whole is None or self.rating is None else self.rating(*self._gather(whole, batch)),
        )

    def _gather(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of each answer the state behind its prompt, the one before its end, and the sum of all (over a constant).

        `states` [tokens, width] predict all tokens of the answers. Beside them the evidence: each answer's
        log-probability under the model, total (over the same constant) and per token, zeros where no head reads it;
        and how it agrees with what the model says itself, zeros where nobody asked it.
        """
        device, sizes = states.device, batch.lengths.to(states.device)
        last = sizes.cumsum(0) - 1
        row = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)
        total = torch.zeros(len(sizes), states.shape[1], device=device).index_add(0, row, states.float())
        found = torch.stack([states[last - sizes + 1].float(), states[last].float(), total / SUMMED_OVER], 1)
        likelihood = torch.zeros(len(sizes), LIKELIHOODS, device=device)
        if self.rating is None or self.rating.with_likelihood:
            targets = batch.tokens[_whole(batch)].to(device)
            head, banned = self.family.head(self.model), self._banned.to(device)
            logprobs, _ = read_tokens(states, head, targets, banned, self.temperature, False)
            summed = torch.zeros(len(sizes), device=device).index_add(0, row, logprobs)
            likelihood = torch.stack([summed / SUMMED_OVER, summed / sizes], 1)
        agreement = torch.zeros(len(sizes), AGREEMENTS, device=device)
        if self.own is not None:
            agreement = self.own(batch).to(agreement)
        else:
            assert self.rating is None or not self.rating.with_agreement, "the head reads own answers: set policy.own"
        return found, torch.cat([likelihood, agreement], 1)


def read_tokens(
    states: Tensor, head: nn.Module, targets: Tensor, banned: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities (and entropies) of target tokens from their hidden states, in chunks over tokens.

    The [tokens, vocabulary] matrix never exists at once: each chunk's logits are made again in the backward pass.
    Products with the head and sums over the vocabulary are float32.
    """

    def chunk(part: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits_in_float32(head, part) / temperature
        logits = logits.masked_fill(banned, float("-inf"))
        normaliser = logits.logsumexp(-1)
        logprob = logits.gather(-1, target[:, None]).squeeze(-1) - normaliser
        if not with_entropy:
            return logprob, logprob.detach()
        probability = logits.softmax(-1)  # sums to one whatever the normaliser's last digit is
        return logprob, normaliser - (probability * logits.masked_fill(banned, 0.0)).sum(-1)

    size = max(1, CHUNK_ELEMENTS // len(banned))
    pieces = list(zip(states.split(size), targets.split(size), strict=True))
    again = torch.is_grad_enabled() and len(pieces) > 1
    found = [checkpoint(chunk, s, t, use_reentrant=False) if again else chunk(s, t) for s, t in pieces]
    if not found:
        empty = states.new_zeros(0, dtype=torch.float32)
        return empty, empty if with_entropy else None
    logprobs = torch.cat([logprob for logprob, _ in found])  # type: ignore[misc]
    return logprobs, torch.cat([entropy for _, entropy in found]) if with_entropy else None  # type: ignore[misc]


def plain_rows(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and attention mask [N, longest row], and the place that predicts each answer token [N, T]."""
    rows = []
    for n, (prompt, length) in enumerate(zip(batch.group.tolist(), batch.lengths.tolist(), strict=True)):
        rows.append([*batch.prompts[prompt].ids, *batch.tokens[n, : length - 1].tolist()])
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    attention = torch.zeros(len(rows), longest, dtype=torch.long)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = torch.as_tensor(row)
        attention[n, : len(row)] = 1
    starts = torch.as_tensor([len(batch.prompts[prompt].ids) for prompt in batch.group.tolist()]) - 1
    predicting = starts[:, None] + torch.arange(batch.tokens.shape[1])
    return ids, attention, predicting


def _anchored(scores: Scores, sharding: Sharding) -> dict[str, Tensor]:
    """What was wanted, by name; with the gradient of zero that other processes count on."""
    nothing = sharding.anchor(seeing=False)
    return {name: value + nothing.to(value.dtype) for name, value in scores.by_name().items()}


def _whole(batch: Batch) -> Tensor:
    """[N, T] all tokens of the answers, scored or not."""
    return torch.arange(batch.tokens.shape[1])[None, :] < batch.lengths[:, None]


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    """Values at the true places of the mask, zero elsewhere."""
    out = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return out.masked_scatter(mask.to(values.device), values)
