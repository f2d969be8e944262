"""Prompt templates of judges: text files with placeholders, shipped ones by name and the user's own by path.

What is put in is put in as it is: braces, marks or "Rating: 5" in an answer are text of the question like any other.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.registry import did_you_mean

FOLDER = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A text with places to fill. Example: `Template(name="claim_exists", text="Is there a {claim}?")`."""

    name: str
    """As the recipe names it."""
    text: str
    """With placeholders such as {answer}."""

    @property
    def placeholders(self) -> frozenset[str]:
        """The names in braces."""
        return frozenset(_PLACEHOLDER.findall(self.text))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with every placeholder replaced, in one pass: what stands in a value stays as it is."""
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.text)


def load_template(name: str, *, needs: Collection[str], takes: Collection[str] = ()) -> Template:
    """A shipped template by its name, or the user's own file (.txt); refused when its placeholders do not fit."""
    template = Template(name=name, text=_read(name))
    known = [*needs, *takes]
    for placeholder in sorted(template.placeholders):
        if placeholder not in known:
            cure = did_you_mean(placeholder, known)
            raise ValueError(f"template {name}: there is no {{{placeholder}}}{cure}")
    missing = [placeholder for placeholder in needs if placeholder not in template.placeholders]
    if missing:
        raise ValueError(f"template {name}: {{{missing[0]}}} is missing; put it where that text belongs")
    return template


def template_names() -> list[str]:
    """Names of the shipped templates."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def aspect_names() -> list[str]:
    """Names of the shipped aspects."""
    return sorted(path.stem for path in (FOLDER / "aspects").glob("*.txt"))


def aspect_text(name: str) -> str:
    """What a shipped aspect means, for {aspect}."""
    return _text(FOLDER / "aspects" / f"{name}.txt")


def _read(name: str) -> str:
    if name in template_names():
        return _text(FOLDER / f"{name}.txt")
    path = Path(name)
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        beside = [str(file) for file in path.parent.glob("*.txt")] if path.suffix else []
        cure = did_you_mean(name, [*beside, *template_names()])
        raise ValueError(f"template {name}: {problem}{cure}")
    try:
        return _text(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"template {name}: is no UTF-8 text (byte {error.start + 1}); save it as UTF-8") from error


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
