"""The reference's log-probabilities: adapter switched off, a frozen copy, or computed once and kept on disk.

Kept ones work for images: the key holds model weights, image content, processor settings, prompt and answer tokens,
and the arithmetic. They are made before the first update, so no second model is ever in memory.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sightline.batch import Batch, PromptTokens, read_in_portions
from sightline.models.forward import Policy
from sightline.models.load import Loaded, fingerprint

SEGMENT = 1024
Reference = Callable[[Batch], Tensor]


def adapter_off(policy: Policy, loaded: Loaded) -> Reference:
    """The model without its adapters; right only when nothing outside the adapters is trained."""
    outside = [name for name in loaded.trained() if "lora_" not in name]
    if loaded.adapter is None or outside:
        what = "there is no adapter" if loaded.adapter is None else f"{outside[0]} is trained too"
        raise ValueError(f"reference.kind: adapter_off is wrong here because {what}; use cached or copy")
    adapter = loaded.adapter

    def score(batch: Batch) -> Tensor:
        with torch.no_grad(), adapter.disable_adapter():
            return policy.score(batch).logprobs

    return score


def frozen_copy(policy: Policy, loaded: Loaded) -> Reference:
    """A second model with the weights as they are now; costs its memory. A frozen tower's features serve both."""
    model = copy.deepcopy(loaded.model).requires_grad_(False).eval()
    twin = Policy(model, policy.family, autocast=loaded.autocast, temperature=policy.temperature)
    if policy.vision.frozen:
        twin.vision = policy.vision

    def score(batch: Batch) -> Tensor:
        with torch.no_grad():
            return twin.score(batch).logprobs

    return score


class KeptLogprobs:
    """Log-probabilities on disk, in segments of safetensors. State: the keys that are there."""

    def __init__(self, folder: Path, policy: Policy, loaded: Loaded) -> None:
        """`policy` must still be the reference when `keep` is called."""
        self._folder = folder
        self._policy = policy
        self._model = f"{fingerprint(loaded.model)}-{loaded.dtype}"
        self._where: dict[str, Path] = {}
        self._fresh: dict[str, Tensor] = {}
        self._memory: dict[str, Tensor] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.look()

    def look(self) -> None:
        """See what is in the folder."""
        for path in sorted(self._folder.glob("segment-*.safetensors")):
            with safe_open(path, "pt") as file:
                self._where.update(dict.fromkeys(file.keys(), path))

    def keep(self, batches: Iterable[Batch], *, token_budget: int) -> int:
        """Compute and keep what is missing, with the policy as it stands now; returns how many answers were new."""
        num_new = 0
        for batch in batches:
            keys = self._keys(batch)
            if all(key in self._where or key in self._fresh for key in keys):
                continue
            logprobs = read_in_portions(
                lambda part: self._policy.score(part).logprobs, batch, token_budget=token_budget
            )
            for key, row, length in zip(keys, logprobs, batch.lengths.tolist(), strict=True):
                if key not in self._where and key not in self._fresh:
                    self._fresh[key] = row[:length].clone()
                    num_new += 1
            if len(self._fresh) >= SEGMENT:
                self._write()
        self._write()
        return num_new

    def holds(self, batch: Batch) -> bool:
        """Whether the log-probabilities of all these answers are kept."""
        return all(key in self._where or key in self._fresh for key in self._keys(batch))

    def __call__(self, batch: Batch) -> Tensor:
        """[N, T] kept log-probabilities; 0 where padded."""
        out = torch.zeros(batch.tokens.shape)
        for n, (key, length) in enumerate(zip(self._keys(batch), batch.lengths.tolist(), strict=True)):
            out[n, :length] = self._read(key)
        return out

    def _read(self, key: str) -> Tensor:
        if key not in self._memory:
            if key not in self._where:
                raise ValueError(
                    f"the reference's log-probs for an answer are missing in {self._folder}; the data changed since "
                    "they were kept, so remove that folder and start the run anew"
                )
            with safe_open(self._where[key], "pt") as file:
                self._memory |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return self._memory[key]

    def _write(self) -> None:
        if not self._fresh:
            return
        name = hashlib.sha256("".join(sorted(self._fresh)).encode()).hexdigest()[:16]
        path = self._folder / f"segment-{name}.safetensors"
        partial = path.with_suffix(".partial")
        save_file(self._fresh, partial)
        partial.replace(path)
        self._where |= dict.fromkeys(self._fresh, path)
        self._fresh = {}

    def _keys(self, batch: Batch) -> list[str]:
        prompts = [prompt_key(prompt) for prompt in batch.prompts]
        rows = zip(batch.group.tolist(), batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
        return [_hash(f"{self._model}/{prompts[p]}/{row[:length]}") for p, row, length in rows]


def prompt_key(prompt: PromptTokens) -> str:
    """A prompt by its tokens and its images' content, whatever its id."""
    return _hash(f"{prompt.ids}/{[image.key for image in prompt.images]}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
