"""What a model says itself to a prompt, as a witness of other answers to it.

A model that describes well may judge badly: how likely an answer is falls with everything that is added, true or not.
So its own greedy answer is laid beside the answers that it rates, phrase by phrase. Owns the speaking and what
rating heads read of it; what a phrase is, rewards/text says.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.batch import Batch, PromptTokens
from sightline.models.forward import Policy
from sightline.models.heads import AGREEMENTS
from sightline.models.reference import prompt_key
from sightline.models.sampler import SamplingParams, sample
from sightline.rewards.text import agreement

AT_ONCE = 64
"""Prompts that are answered together."""


@dataclass(slots=True, kw_only=True)
class OwnAnswers:
    """A model's own answers. State: what it said, by prompt."""

    text: Callable[[Sequence[int]], str]
    """Text of an answer's tokens."""
    ends: tuple[int, ...]
    """Tokens at which an answer ends."""
    max_tokens: int = 256
    """Answers are cut here."""
    pattern: re.Pattern[str] | None = None
    """What counts as a phrase; None: runs of words between small words."""
    speaker: Policy | None = None
    """Who answers; None: nobody any more, and what was said must do."""
    speaking: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered while it answers: where its adapters are switched off."""
    said: dict[str, str] = field(default_factory=dict)
    """Its answers, by `prompt_key`."""

    def ask(self, prompts: Sequence[PromptTokens], *, told: Callable[[int], None] = lambda num: None) -> dict[str, str]:
        """Answers to those prompts that were not answered before, which are kept; `told` hears how many there are."""
        new = {key: prompt for prompt in prompts if (key := prompt_key(prompt)) not in self.said}
        if not new:
            return {}
        assert self.speaker is not None, "nobody answers any more: the model is no longer the one that answered"
        params, fresh = SamplingParams(temperature=0.0, max_tokens=self.max_tokens), {}
        for start in range(0, len(new), AT_ONCE):
            keys = list(new)[start : start + AT_ONCE]
            with torch.no_grad(), self.speaking():
                asked = [new[key] for key in keys]
                found = sample(self.speaker, asked, num=1, params=params, ends=self.ends)
            fresh |= {key: self.text(answers[0].token_ids) for key, answers in zip(keys, found, strict=True)}
            told(len(fresh))
        self.said |= fresh
        return fresh

    def __call__(self, batch: Batch) -> Tensor:
        """[N, 3] how each answer agrees with the model's own: phrases shared, alone, left out."""
        self.ask(batch.prompts)
        witnesses = [self.said[prompt_key(prompt)] for prompt in batch.prompts]
        rows = zip(batch.group.tolist(), batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
        found = [agreement(self.text(ids[:num]), witnesses[prompt], self.pattern) for prompt, ids, num in rows]
        return torch.as_tensor(found, dtype=torch.float32).reshape(-1, AGREEMENTS)
