"""Heads on the text model's hidden states: the critic's value of each token, and ratings of whole answers.

They are ours, small layers on the states, because transformers has no class that puts a scalar on the states of a
vision-language model. Knows nothing of advantages or losses.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.models.families import Family

LIKELIHOODS = 2
"""Log-probabilities that a rating head may read: the answer's total, and its mean per token."""
AGREEMENTS = 3
"""Numbers of phrases that it may read: those that an answer shares with what the backbone says itself, those that it
has alone, and those that it leaves out (models/own_answers)."""
EVIDENCE = LIKELIHOODS + AGREEMENTS
"""Numbers that are gathered of every answer beside its states: log-probabilities, then the agreement."""
LIKELY_START = 4.0
"""First weight of the total (over `forward.SUMMED_OVER`): a quarter of a point for each unit of log-probability."""
AGREEMENT_START = (1.0, -1.0, 0.0)
"""First weights of the agreement: a point for each phrase that is shared, one off for each that stands alone."""


class ValueHead(nn.Module):
    """A linear layer from hidden states to a value; starts at zero, so that the first values say nothing."""

    def __init__(self, width: int) -> None:
        """`width` is that of the hidden states."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, states: Tensor) -> Tensor:
        """Values [rows] of hidden states [rows, width], in float32."""
        with torch.autocast(states.device.type, enabled=False):
            return states.float() @ self.weight + self.bias


class RatingHead(nn.Module):
    """Ratings of whole answers, [N, H]: overall, then the attributes, then (with `with_length`) length alone.

    An answer is read from the state before its end, which has seen all of it, and from the sum of its tokens' states,
    in which each phrase can speak for itself (small models cannot gather at the end what they know along the way).
    With `with_likelihood` it is also read from its log-probability under the backbone itself, total and per token,
    which the comparisons then train too: what a model would say itself is what it knows best. With `with_agreement` it
    is also read from how it agrees with what the backbone said itself before it was trained here: likelihood falls
    with everything that is added, true or not, and agreement does not. With attributes the overall rating is their
    mean, weighed by a gate that reads the state behind the prompt: what counts depends on what was asked (after ArmoRM,
    Wang et al. 2024; their gate has three layers, ours one). The length head takes up what length alone
    explains (ODIN, Chen et al. 2024) and is left out of the overall rating.
    """

    def __init__(
        self,
        width: int,
        *,
        num_attributes: int = 0,
        with_length: bool = False,
        with_likelihood: bool = False,
        with_agreement: bool = False,
        hidden: int = 0,
    ) -> None:
        """`width` is that of the states; `hidden` units between them and ratings, 0 reads them off linearly."""
        super().__init__()
        self.num_attributes = num_attributes
        self.with_length = with_length
        self.with_likelihood = with_likelihood
        self.with_agreement = with_agreement
        self.reads = [*range(LIKELIHOODS)] * with_likelihood + [*range(LIKELIHOODS, EVIDENCE)] * with_agreement
        num_read = max(1, num_attributes) + with_length
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("centre", torch.zeros(3, width))
        self.register_buffer("scale", torch.ones(3, width))
        self.evidence_centre: Tensor
        self.evidence_scale: Tensor
        self.register_buffer("evidence_centre", torch.zeros(EVIDENCE))
        self.register_buffer("evidence_scale", torch.ones(EVIDENCE))
        num_given = 2 * width + len(self.reads)
        self.inner = nn.Linear(num_given, hidden) if hidden else None
        self.outer = nn.Linear(hidden or num_given, num_read)
        self.gate = nn.Linear(width, num_attributes) if num_attributes else None
        nn.init.normal_(self.outer.weight, std=0.1 / (hidden or num_given) ** 0.5)
        nn.init.zeros_(self.outer.bias)
        if not hidden:  # a linear head begins with what the backbone knows
            self._start_from(self.outer.weight[: max(1, num_attributes), 2 * width :])
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    @property
    def size(self) -> int:
        """H."""
        return 1 + self.num_attributes + self.with_length

    @torch.no_grad()
    def _start_from(self, weights: Tensor) -> None:
        """First weights [heads, len(reads)] of the evidence: agreement where it is read, else likelihood."""
        if self.with_agreement:
            weights[:, -AGREEMENTS:] = torch.tensor(AGREEMENT_START)
        elif self.with_likelihood:
            weights[:, 0] = LIKELY_START

    def forward(self, states: Tensor, evidence: Tensor) -> Tensor:
        """Ratings [N, H] of what was gathered of each answer, states [N, 3, width] and evidence [N, EVIDENCE]
        (`forward.gathered`), in float32."""
        with torch.autocast(states.device.type, enabled=False):
            given = (states.float() - self.centre) / self.scale
            asked, said = given[:, 0], given[:, 1:].flatten(1)
            if self.reads:
                seen = (evidence.float() - self.evidence_centre) / self.evidence_scale
                said = torch.cat([said, seen[:, self.reads]], 1)
            read = self.outer(said if self.inner is None else torch.tanh(self.inner(said)))
            if self.gate is None:
                return read
            attributes = read[:, : self.num_attributes]
            overall = (self.gate(asked).softmax(-1) * attributes).sum(-1, keepdim=True)
            return torch.cat([overall, read], -1)

    def trained(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name, apart from the policy's."""
        return {f"rating.{name}": parameter for name, parameter in self.named_parameters()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Critic:
    """Who values the state before each token: a head, on the policy's own states or on those of a second model."""

    head: ValueHead
    """Reads values from states."""
    model: Any | None = None
    """The critic's own model; None shares the policy's, whose states the value loss then shapes too."""
    shared: frozenset[str] = frozenset()
    """Names of those parameters of `model` that are the policy's too."""

    def trained(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name, apart from the policy's."""
        found = {f"critic.head.{name}": p for name, p in self.head.named_parameters()}
        if self.model is not None:
            own = ((name, p) for name, p in self.model.named_parameters() if name not in self.shared)
            found |= {f"critic.model.{name}": p for name, p in own if p.requires_grad}
        return found


def make_critic(model: Any, family: Family, *, separate: bool) -> Critic:
    """A critic for a policy's model.

    A separate one starts as a copy of what the policy trains of its language model, on the same frozen weights: where
    the policy trains adapters, it has adapters of its own and costs no second model. Tower and projector stay common,
    so that every image is still encoded once.
    """
    weight = family.head(model).weight
    assert isinstance(weight, Tensor)
    head = ValueHead(weight.shape[1]).to(weight.device)
    outside = (family.tower(model), family.projector(model))
    common: dict[int, Any] = {id(x): x for part in outside for x in (*part.modules(), *part.parameters())}
    common |= {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    if not separate:
        return Critic(head=head)
    twin, policys = copy.deepcopy(model, common), dict(model.named_parameters())
    shared = frozenset(name for name, parameter in twin.named_parameters() if parameter is policys[name])
    return Critic(head=head, model=twin, shared=shared)
