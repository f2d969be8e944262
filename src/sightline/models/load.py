"""Loading any supported image-text-to-text model, and choosing what of it is trained.

Safetensors only, no remote code unless asked for by name. The family is known before weights are read, so what is
not supported is refused in a second.
"""

import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from sightline.models.arithmetic import AUTO, DTYPES, autocast_of, dtype_of
from sightline.models.attention import attention_again
from sightline.models.families import Family, family_of
from sightline.models.processor import load_processor
from sightline.models.refusals import refuse_model
from sightline.models.turns import Turns, turns_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model with its processor, and the adapter around it if there is one."""

    model: Any
    """The bare transformers model; adapters sit inside its layers."""
    processor: Any
    """Its own processor."""
    family: Family
    """How to reach its parts."""
    dtype: str
    """"float32" or "bfloat16"."""
    adapter: PeftModel | None = None
    """The wrapper that switches adapters off and merges them."""

    @property
    def autocast(self) -> torch.dtype | None:
        """What the forward computes in, when that is not float32."""
        return autocast_of(self.dtype)

    @property
    def turns(self) -> Turns:
        """How the chat template writes an answer, and the tokens at which one ends."""
        ids = self.model.generation_config.eos_token_id
        named = [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
        return turns_of(self.processor, named=named, media=self.family.media_tokens(self.model.config))

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens at which an answer ends; the first is the one that is learned."""
        return self.turns.ends

    @property
    def vocabulary(self) -> int:
        """Tokens that the head has a row for."""
        head: Any = self.family.head(self.model)
        return int(head.weight.shape[0])

    def trained(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


def load_model(
    path: str,
    *,
    revision: str | None = None,
    dtype: str = AUTO,
    quantise: str | None = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """The model at a folder or hub id, all of it frozen; its language model in four bits if asked.

    `dtype` "auto" is the arithmetic that is fastest here.
    """
    if quantise is not None and not torch.cuda.is_available():
        raise ValueError("model.quantise: 4bit needs a CUDA GPU, and there is none; leave it out")
    transformers_logging.disable_progress_bar()
    dtype = dtype_of(dtype, quantised=quantise is not None)
    where = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(path, **where)
        refuse_model(config)
        family = family_of(config.model_type)
        processor = load_processor(path, **where)
        fewer = {} if quantise is None else _in_four_bits(config, family)
        model = AutoModelForImageTextToText.from_pretrained(
            path, dtype=DTYPES[dtype], attn_implementation="sdpa", use_safetensors=True, **fewer, **where
        )
    except OSError as error:
        known = "a folder with config.json, or the id of a model on the hub that this machine can reach"
        raise ValueError(f"model.path: {path!r} could not be loaded ({_first_line(error)}); give {known}") from error
    if quantise is None:
        nn.Module.to(model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    model.requires_grad_(False)
    model.eval()
    return Loaded(model=model, processor=processor, family=family, dtype=dtype)


def choose_trained(
    loaded: Loaded,
    *,
    train: str,
    rank: int = 16,
    alpha: float = 32,
    targets: str | Sequence[str] = "language",
    train_tower: bool = False,
    train_projector: bool = False,
    seed: int = 0,
) -> Loaded:
    """Unfreeze what is trained, in float32: the language model or adapters in it, tower and projector if asked."""
    family, model = loaded.family, loaded.model
    adapter = None
    if train == "lora":
        adapter = _add_adapters(loaded, rank=rank, alpha=alpha, targets=targets, seed=seed)
    else:
        family.language_model(model).requires_grad_(True)
        family.head(model).requires_grad_(True)
    family.tower(model).requires_grad_(train_tower)
    family.projector(model).requires_grad_(train_projector)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return replace(loaded, adapter=adapter)


def use_checkpointing(loaded: Loaded) -> None:
    """Recompute activations in the backward pass, those of the language model and of the tower's trained layers; off
    again with `model.eval()`."""
    language_model = loaded.family.language_model(loaded.model)
    contexts = partial(attention_again, language_model.config)  # type: ignore[arg-type]
    _recompute(language_model.modules(), partial(checkpoint, use_reentrant=False, context_fn=contexts))
    seeing = loaded.family.tower(loaded.model).modules()
    trained = (layer for layer in seeing if any(p.requires_grad for p in layer.parameters()))
    _recompute(trained, partial(checkpoint, use_reentrant=False))


def _recompute(modules: Iterable[nn.Module], again: Callable[..., Any]) -> None:
    """Those of the modules that are layers run under `again`."""
    for layer in modules:
        if isinstance(layer, GradientCheckpointingLayer):
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = again  # type: ignore[assignment]
            layer.train()


def fingerprint(model: nn.Module) -> str:
    """Hash of all weights and of the configuration; what is computed from a model can be kept under it."""
    found = hashlib.blake2b(digest_size=16)
    config: Any = model.config
    found.update(config.to_json_string().encode())
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def save_merged(loaded: Loaded, folder: Path, *, keep_adapter: bool = False) -> None:
    """An ordinary checkpoint with processor: adapters merged into the weights, or saved alone beside nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    where = str(folder)
    if loaded.adapter is None:
        if keep_adapter:
            raise ValueError(
                "this run trained the model itself and has no adapter to keep; export without --keep-adapter"
            )
        loaded.model.save_pretrained(where)
    elif keep_adapter:
        loaded.adapter.save_pretrained(where)
    else:
        loaded.adapter.merge_and_unload().save_pretrained(where)
    loaded.processor.save_pretrained(where)
    _give_ordinary_permissions(folder)


def _give_ordinary_permissions(folder: Path) -> None:
    """What the user's umask gives new files: safetensors are written for their owner alone."""
    probe = folder / f".mode-{os.getpid()}"
    probe.touch(exist_ok=False)
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(mode)


def _in_four_bits(config: Any, family: Family) -> dict[str, Any]:
    """How transformers loads the language model's matrices in four bits; tower, projector and head stay as they are."""
    with torch.device("meta"):
        outline = AutoModelForImageTextToText.from_config(config)
    kept = {id(part) for part in (family.tower(outline), family.projector(outline), family.head(outline))}
    names = [name for name, part in outline.named_modules() if id(part) in kept]
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=names,
    )
    return {"quantization_config": settings, "device_map": {"": torch.cuda.current_device()}}


def _add_adapters(loaded: Loaded, *, rank: int, alpha: float, targets: str | Sequence[str], seed: int) -> PeftModel:
    language_model = loaded.family.language_model(loaded.model)
    inside = {id(module) for module in language_model.modules()}
    linear = [
        name for name, module in loaded.model.named_modules() if id(module) in inside and isinstance(module, nn.Linear)
    ]
    called = {name.rsplit(".", 1)[-1] for name in linear}
    wanted = called if targets == "language" else set(targets)
    if not wanted <= called:
        raise ValueError(
            f"model.lora.targets: no linear layer of the language model is called {sorted(wanted - called)[0]!r}; "
            f"there are {', '.join(sorted(called))}"
        )
    names = [name for name in linear if name.rsplit(".", 1)[-1] in wanted]
    scale: Any = alpha  # peft calls it whole and divides it by the rank: 0.5 is as good, and must not become 0
    config = LoraConfig(r=rank, lora_alpha=scale, lora_dropout=0.0, target_modules=names)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft 0.21 reads a name that transformers 5.23 deprecates; nothing that a user could mend
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        torch.manual_seed(seed)
        wrapped = get_peft_model(loaded.model, config, autocast_adapter_dtype=True)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")[:200]
