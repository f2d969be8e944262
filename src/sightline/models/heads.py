"""The critic's head: one number per answer token, read from the hidden state that predicts it.

The head is ours, a single linear layer on the text model's hidden states, because transformers has no class that puts
a scalar on the states of a vision-language model. Knows nothing of advantages or losses.
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
