"""Weights cut over processes with FSDP2, so that each holds its part of weights, gradients and optimiser state.

Each layer of the language model is put together for its own forward and backward pass; embeddings, head, tower and
projector for as long as a pass lasts, so nothing but the layers asks other processes for anything in the middle of one.
Processes must therefore go through the layers equally often: who has nothing to score makes an idle pass. What needs no
gradient (sampling, the reference, evaluation) has all weights together (`whole_weights`) and asks nobody.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from sightline.models.families import Family


class Within(nn.Module):
    """A model in whose forward anything can be done with it: what FSDP2 wants to see as one pass."""

    def __init__(self, model: nn.Module) -> None:
        """The model whose weights are needed."""
        super().__init__()
        self.model = model

    def forward(self, make: Callable[[], Any]) -> Any:
        """What `make` gives: tensors, or lists and dictionaries of them."""
        return make()


class Sharding:
    """A model whose weights are cut over the processes. State: whether they are together for now."""

    def __init__(self, model: Any, family: Family) -> None:
        """Cuts the weights, which must be equal in all processes; parameters become parts of themselves."""
        language_model = family.language_model(model)
        mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
        layers = [layer for layer in language_model.modules() if isinstance(layer, GradientCheckpointingLayer)]
        self._pass = Within(model)
        self._units = [fully_shard(unit, mesh=mesh) for unit in (*layers, self._pass)]
        self._root = self._units[-1]
        for unit in self._units:
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
        # by name: what FSDP2 would fetch ahead by itself follows all passes before, which differ between processes
        for unit, before in zip(self._units, (self._root, *self._units), strict=False):
            unit.set_modules_to_backward_prefetch([before])
        in_layers = {id(parameter) for layer in layers for parameter in layer.parameters()}
        outside = [p for p in model.parameters() if p.requires_grad and id(p) not in in_layers]
        seen = {id(p) for part in (family.tower(model), family.projector(model)) for p in part.parameters()}
        self._names = {id(p): name for name, p in model.named_parameters()}
        self._seeing = [self._names[id(p)] for p in outside if id(p) in seen]
        self._saying = [self._names[id(p)] for p in outside if id(p) not in seen]
        self._model = model
        self.together = False
        """Whether all weights are in this process for now."""
        self._pass(lambda: None)  # FSDP2 wants the whole to be entered before any part
        self._root.reshard()  # so that the model's parameters are the parts again

    def run(self, make: Callable[[], Any]) -> Any:
        """What `make` gives, which is one pass through the model."""
        return self._pass(make)

    def anchor(self, *, seeing: bool) -> Tensor:
        """Zero, with a gradient of zero for all that is trained outside the layers: in tower and projector, or beside.

        Processes sum gradients of the same parameters, whether or not a process used them all.
        """
        names = set(self._seeing if seeing else self._saying)
        own = [p.flatten()[:1].float().sum() for name, p in self._model.named_parameters() if name in names]
        device = next(self._model.parameters()).device
        return 0.0 * torch.stack(own).sum() if own else torch.zeros((), device=device)

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """All weights together in every process; all must enter."""
        if self.together:
            yield
            return
        self.together = True
        for unit in self._units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            self.together = False
            for unit in self._units:
                unit.set_reshard_after_forward(unit is not self._root, recurse=False)
                unit.reshard()


def whole(value: Tensor) -> Tensor:
    """All of a tensor that may be cut over the processes; all must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def cut_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, equal in all processes, cut as another one is."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
