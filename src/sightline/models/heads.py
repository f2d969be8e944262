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


class ValueHead(nn.Module):
    """A linear layer from hidden states to a value; starts at zero, so that the first values say nothing."""

    def __init__(self, width: int) -> None:
        """`width` is that of the hidden states."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, states: Tensor) -> Tensor:
        """Values [rows] of hidden states [rows, width], in float32."""
        return states.float() @ self.weight + self.bias


class RatingHead(nn.Module):
    """Ratings of whole answers, [N, H]: overall, then the attributes, then (with `with_length`) length alone.

    An answer is read from the state that predicts its end, which has seen all of it. With attributes the overall rating
    is their mean, weighed by a gate that reads the prompt's last state: what counts depends on what was asked
    (interpretable, after ArmoRM, Wang et al. 2024; their gate has three layers, ours one). The length head takes up
    what length alone explains (ODIN, Chen et al. 2024) and is left out of the overall rating.
    """

    def __init__(self, width: int, *, num_attributes: int = 0, with_length: bool = False, hidden: int = 0) -> None:
        """`hidden` units between states and ratings; 0 reads them off linearly."""
        super().__init__()
        self.num_attributes = num_attributes
        self.with_length = with_length
        num_read = max(1, num_attributes) + with_length
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.inner = nn.Linear(width, hidden) if hidden else None
        self.outer = nn.Linear(hidden or width, num_read)
        self.gate = nn.Linear(width, num_attributes) if num_attributes else None
        nn.init.normal_(self.outer.weight, std=0.1 / (hidden or width) ** 0.5)
        nn.init.zeros_(self.outer.bias)
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    @property
    def size(self) -> int:
        """H."""
        return 1 + self.num_attributes + self.with_length

    def forward(self, answers: Tensor, prompts: Tensor) -> Tensor:
        """Ratings [N, H] of states [N, width] at the ends of answers and of their prompts, in float32."""
        with torch.autocast(answers.device.type, enabled=False):
            states, asked = ((x.float() - self.centre) / self.scale for x in (answers, prompts))
            read = self.outer(states if self.inner is None else torch.tanh(self.inner(states)))
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

    def trained(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name, apart from the policy's."""
        found = {f"critic.head.{name}": p for name, p in self.head.named_parameters()}
        if self.model is not None:
            found |= {f"critic.model.{name}": p for name, p in self.model.named_parameters() if p.requires_grad}
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
    common: dict[int, Any] = {id(part): part for part in (family.tower(model), family.projector(model))}
    common |= {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    return Critic(head=head, model=copy.deepcopy(model, common) if separate else None)
