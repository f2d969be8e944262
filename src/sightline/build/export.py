"""A run as an ordinary checkpoint for others: weights or adapter, processor, card; and from there to a hub.

Whether there is a key for the hub is looked at before anything is loaded, and the hub is written to last: an upload
that fails leaves a whole folder behind.
"""

import re
from pathlib import Path
from typing import Any, Protocol

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from sightline.build.loading import Trusted, load_trained
from sightline.build.model_card import Figures, as_json, is_hub_id, model_card
from sightline.config import Recipe
from sightline.journal import Journal, RunFailed
from sightline.models.load import save_merged
from sightline.progress import announced
from sightline.world.weights import resolve

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Hub(Protocol):
    """What is asked of a hub; `huggingface_hub.HfApi` is one."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        """Make the repository where it is not there yet."""
        ...

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        """Add the folder's files."""
        ...


def export(
    *,
    run: Path | Trusted,
    out: Path,
    keep_adapter: bool = False,
    figures: Figures | None = None,
    push: str | None = None,
    public: bool = False,
    hub: Hub | None = None,
) -> Path:
    """An ordinary Hugging Face checkpoint of a run, with its processor and card; `push` names a repository on a hub.

    A repository that is made here is private unless `public`. `hub` stands for Hugging Face's.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; name a new folder for the export")
    to = None if push is None else _hub(push, hub)
    loaded, recipe = load_trained(run if isinstance(run, Trusted) else str(run))
    if recipe is None:
        raise ValueError(f"{run} is a model, not a run; name the folder that sightline train printed")
    _check_adapter_is_all(recipe, keep_adapter)
    journal = Journal.open(run)
    checkpoint = journal.checkpoint()
    out.mkdir(parents=True, exist_ok=True)
    if keep_adapter:
        _name_base(loaded.adapter, recipe)
    card = model_card(recipe, journal, checkpoint, where=push or out.name, adapter=keep_adapter, figures=figures)
    with announced(f"writing {out}"):
        save_merged(loaded, out, keep_adapter=keep_adapter)
    (out / "README.md").write_text(card, encoding="utf-8")
    if figures is not None:
        (out / "figures.json").write_text(as_json(figures), encoding="utf-8")
    if to is not None and push is not None:
        _upload(to, out, push, public, recipe.name)
    return out


def _check_adapter_is_all(recipe: Recipe, keep_adapter: bool) -> None:
    model = recipe.model
    if keep_adapter and (model.train_tower or model.train_projector):
        part = "the tower" if model.train_tower else "the projector"
        problem = f"this run trained {part} too, which an adapter's file does not hold"
        raise ValueError(f"{problem}; export without --keep-adapter")


def _name_base(adapter: Any, recipe: Recipe) -> None:
    """The adapter's file says what it belongs on: an id on a hub, or a folder that is found from everywhere."""
    if adapter is None:
        return
    path = recipe.model.path
    for config in adapter.peft_config.values():
        config.base_model_name_or_path = path if is_hub_id(path) else str(Path(resolve(path)).resolve())
        config.revision = recipe.model.revision


def _hub(push: str, given: Hub | None) -> Hub:
    if not _REPO.fullmatch(push):
        raise ValueError(f"--push is {push!r}; write the owner and the name, such as me/aligned-model")
    if given is not None:
        return given
    if huggingface_hub.get_token() is None:
        raise ValueError("--push needs a key for the hub, and there is none; run `hf auth login`, or set HF_TOKEN")
    return huggingface_hub.HfApi()


def _upload(hub: Hub, folder: Path, repo: str, public: bool, name: str) -> None:
    try:
        with announced(f"uploading to {repo}"):
            hub.create_repo(repo, private=not public, exist_ok=True)
            hub.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=f"{name}, exported by sightline")
    except (HfHubHTTPError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200].rstrip(".")
        problem = f"{repo} could not be written ({said})"
        raise RunFailed(f"{problem}; {folder} is whole: `hf upload {repo} {folder}` tries again") from error
