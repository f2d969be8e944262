"""Images to features, each distinct image once: per run when tower and projector are frozen, else per step.

Kept features lie in memory up to a bound, and on disk only where a folder is named.

With something trained, a step's images are encoded first, handed out detached, and the gradients that the
micro-batches leave on the features go through the tower at the end. That is exact: the features' gradient is a sum
over micro-batches. A step whose images are one portion keeps their graph meanwhile. One with more keeps none: each
portion is encoded once more at the end, with gradient, so that memory follows the portion and not the step.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sightline.batch import ImageInput
from sightline.models.families import Family
from sightline.models.sharding import Sharding

ENCODE_BATCH = 64


class Shelf:
    """Features on disk, a file for each picture, for runs with the same tower, projector and arithmetic."""

    def __init__(self, folder: Path, model: nn.Module, family: Family, *, dtype: str) -> None:
        """The weights as they are now are part of every key."""
        self._folder = folder
        found = hashlib.blake2b(dtype.encode(), digest_size=16)
        for part in (family.tower(model), family.projector(model)):
            for name, value in sorted(part.state_dict().items()):
                found.update(name.encode())
                found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        self._weights = found.hexdigest()
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> Tensor | None:
        """The features of the picture with this key."""
        path = self._path(key)
        return load_file(path)["features"] if path.is_file() else None

    def put(self, key: str, features: Tensor) -> None:
        """Keep features; the file is there as a whole or not at all."""
        path = self._path(key)
        partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
        save_file({"features": features.detach().cpu().contiguous()}, partial)
        partial.replace(path)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(f'{self._weights}/{key}'.encode()).hexdigest()[:32]}.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A step's images while its micro-batches are at work."""

    leaves: dict[str, Tensor]
    """Detached features by key, on which gradients are summed."""
    portions: Sequence[Sequence[ImageInput]]
    """The images as they are encoded together."""
    graph: tuple[dict[str, Tensor], Tensor | None] | None
    """Features with their graph, and the anchor of cut weights; None where they are made again."""


class Vision:
    """Encodes images and keeps their features. State: the kept features, least recently used first."""

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        *,
        keep_bytes: int = 2**30,
        keep_batch: int = 1,
        precision: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """At most `keep_bytes` of features stay; images to keep are encoded `keep_batch` at a time. Whoever asks, they
        are encoded within `precision`, the policy's arithmetic."""
        self._model = model
        self._family = family
        self._precision = precision
        self._keep_bytes = keep_bytes
        self._keep_batch = keep_batch
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._kept_bytes = 0
        self._step: _Step | None = None
        self.sharding: Sharding | None = None
        self.shelf: Shelf | None = None
        self.num_encoded = 0
        """Images encoded so far, for the log and for tests."""

    @property
    def frozen(self) -> bool:
        """Whether features stay valid over steps."""
        parts = (self._family.tower(self._model), self._family.projector(self._model))
        return not any(p.requires_grad for part in parts for p in part.parameters())

    def features(self, images: Sequence[ImageInput]) -> dict[str, Tensor]:
        """Features of the distinct images by key, each [tokens, width], wider where the family has deep ones."""
        if self._step is not None:
            return {image.key: self._step.leaves[image.key] for image in images}
        if self.frozen:
            return self._kept_features(images)
        return self._encode(_distinct(images))

    def portions(self, images: Sequence[ImageInput], *, token_budget: int) -> list[list[ImageInput]]:
        """The distinct images in order, as many together as take at most so many tokens, and never none."""
        found: list[list[ImageInput]] = [[]]
        num_tokens = 0
        for image in _distinct(images):
            if found[-1] and num_tokens + image.num_tokens > token_budget:
                found.append([])
                num_tokens = 0
            found[-1].append(image)
            num_tokens += image.num_tokens
        return found

    def begin_step(self, portions: Sequence[Sequence[ImageInput]]) -> None:
        """Encode a step's images; until `end_step`, micro-batches share detached features.

        Where weights are cut, all processes give equally many portions, the last ones empty.
        """
        if self.frozen:
            return
        kept = len(portions) == 1
        with torch.set_grad_enabled(kept):
            encoded = [self._encode_as_one(portion) for portion in portions]
        # detached, since all gradients go through the tower at once; float32, in which they are summed until then
        features = {key: value for found, _ in encoded for key, value in found.items()}
        leaves = {key: value.detach().float().requires_grad_() for key, value in features.items()}
        self._step = _Step(leaves=leaves, portions=portions, graph=encoded[0] if kept else None)

    def end_step(self) -> None:
        """Send the features' collected gradients through tower and projector."""
        step = self._step
        self.abandon_step()
        if step is None:
            return
        for portion in step.portions:
            encoded, anchor = self._encode_as_one(portion) if step.graph is None else step.graph
            gradients = {key: step.leaves[key].grad for key in encoded}
            used = [(encoded[key], grad.to(encoded[key].dtype)) for key, grad in gradients.items() if grad is not None]
            if anchor is not None:
                used.append((anchor, torch.zeros_like(anchor)))
            if used:
                torch.autograd.backward([whole for whole, _ in used], [grad for _, grad in used])

    def abandon_step(self) -> None:
        """Forget a step that failed."""
        self._step = None

    def _encode_as_one(self, images: Sequence[ImageInput]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Features of some images; where weights are cut, also in a process without images, and with the anchor."""
        if self.sharding is None:
            return self._encode(images), None
        sharding = self.sharding

        def encode() -> list[Any]:  # views would lose the hooks of the backward pass
            return [{k: v.clone() for k, v in self._encode(images).items()}, sharding.anchor(seeing=True)]

        encoded, anchor = sharding.run(encode)
        return encoded, anchor

    def _kept_features(self, images: Sequence[ImageInput]) -> dict[str, Tensor]:
        found = {image.key: self._kept[image.key] for image in images if image.key in self._kept}
        missing = [image for image in _distinct(images) if image.key not in found]
        if self.shelf is not None:
            found |= self._from_shelf(missing, self.shelf)
            missing = [image for image in missing if image.key not in found]
        with torch.no_grad():
            fresh = self._encode(missing, at_once=self._keep_batch)
        if self.shelf is not None:
            for key, value in fresh.items():
                self.shelf.put(key, value)
        found |= fresh
        for key, value in found.items():
            self._keep(key, value)
        return found

    def _from_shelf(self, images: Sequence[ImageInput], shelf: Shelf) -> dict[str, Tensor]:
        device = next(self._model.parameters()).device
        held = {image.key: shelf.get(image.key) for image in images}
        return {key: value.to(device) for key, value in held.items() if value is not None}

    def _keep(self, key: str, value: Tensor) -> None:
        if key not in self._kept:
            self._kept_bytes += value.nbytes
        self._kept[key] = value
        self._kept.move_to_end(key)
        while self._kept_bytes > self._keep_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= dropped.nbytes

    def _encode(self, images: Iterable[ImageInput], *, at_once: int = ENCODE_BATCH) -> dict[str, Tensor]:
        waiting = list(images)
        found: dict[str, Tensor] = {}
        device = next(self._model.parameters()).device
        dtype = next(self._family.tower(self._model).parameters()).dtype
        for start in range(0, len(waiting), at_once):
            part = waiting[start : start + at_once]
            pixels = [image.load().to(device, dtype) for image in part]
            with self._precision():
                features = self._family.encode(self._model, pixels, [image.grid for image in part])
            for image, feature in zip(part, features, strict=True):
                _check_count(image, feature)
                found[image.key] = feature
            self.num_encoded += len(part)
        return found


def _distinct(images: Sequence[ImageInput]) -> list[ImageInput]:
    return list({image.key: image for image in images}.values())


def _check_count(image: ImageInput, feature: Tensor) -> None:
    if len(feature) != image.num_tokens:
        raise ValueError(
            f"image {image.key[:12]} gives {len(feature)} features and takes {image.num_tokens} placeholder tokens; "
            "processor and model do not belong together, so load both from one checkpoint"
        )
