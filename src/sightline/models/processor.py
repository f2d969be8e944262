"""A checkpoint's tokenizer and image processor as one, also where its own processor class cannot be made.

Processor classes of many families want a video processor, and with it torchvision, though a picture needs neither.
Then tokenizer and image processor are loaded by themselves. Knows nothing of families.
"""

import inspect
import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoProcessor, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # the top-level name may want torchvision
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.hub import cached_file

SETTINGS = "processor_config.json"


class ImageTextProcessor:
    """Tokenizer, image processor and chat template of a checkpoint, and the plain settings of its own processor."""

    def __init__(self, *, tokenizer: Any, image_processor: Any, settings: dict[str, Any]) -> None:
        """`settings` are those of the checkpoint's own processor; each number and text of them becomes an attribute."""
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.settings = settings
        for name, value in settings.items():
            if isinstance(value, (int, float, str)):
                setattr(self, name, value)

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        """The conversation as the checkpoint's template writes it."""
        return self.tokenizer.apply_chat_template(messages, **options)

    def save_pretrained(self, folder: str) -> None:
        """The parts as any checkpoint has them, and the settings that were read."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        if self.settings:
            (Path(folder) / SETTINGS).write_text(json.dumps(self.settings, indent=2))


def load_processor(path: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The checkpoint's own processor; its parts where the class needs a package that is not here."""
    where = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        return AutoProcessor.from_pretrained(path, **where)
    except (ImportError, TypeError, ValueError, AttributeError):  # what a missing torchvision means, by class
        return load_parts(path, revision=revision, trust_remote_code=trust_remote_code)


def load_parts(path: str, *, revision: str | None = None, trust_remote_code: bool = False) -> ImageTextProcessor:
    """Tokenizer and image processor alone."""
    where = {"revision": revision, "trust_remote_code": trust_remote_code}
    found = cached_file(path, SETTINGS, revision=revision, _raise_exceptions_for_missing_entries=False)
    settings = _defaults(AutoConfig.from_pretrained(path, **where))
    settings |= json.loads(Path(found).read_text()) if found is not None else {}
    return ImageTextProcessor(
        tokenizer=AutoTokenizer.from_pretrained(path, **where),
        image_processor=AutoImageProcessor.from_pretrained(path, **where),
        settings=settings,
    )


def _defaults(config: PreTrainedConfig) -> dict[str, Any]:
    """Settings that the model's own processor class has where its checkpoint is silent."""
    kind = PROCESSOR_MAPPING.get(type(config), None)
    if kind is None:
        return {}
    named = inspect.signature(kind.__init__).parameters
    return {name: each.default for name, each in named.items() if isinstance(each.default, (int, float, str))}
