"""Prompt templates of judges: text files with placeholders, shipped ones by name and the user's own by path.

What others wrote (answers, claims, the question) is put in as material: each line of a text that has a line of its own
in the template begins with "| ", so that no line of an answer can be one of the template or of a reply; every "<" is
written "&lt;", so that nothing closes a field or spells a token of a chat template; and characters that are not seen
are left out. In the middle of a line such a text stands in one line. What the recipe says is put in as it is.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.registry import did_you_mean

FOLDER = Path(__file__).parent / "templates"
MATERIAL = frozenset(("question", "answer", "first", "second", "claim"))
"""Placeholders of what others wrote."""
BAR = "| "
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_OPENING = str.maketrans(dict.fromkeys("<\uff1c\ufe64\u2039\u276e\u27e8\u3008\u2329", "&lt;"))
"""Signs that open a mark, and those that look like it."""
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


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
        """The text with every placeholder replaced, in one pass: braces in a value are no placeholders."""

        def put(match: re.Match[str]) -> str:
            value = values[match[1]]
            if match[1] not in MATERIAL:
                return value
            start, end = match.span()
            alone = self.text[start - 1 : start] in ("", "\n") and self.text[end : end + 1] in ("", "\n")
            return as_material(value, in_lines=alone)

        return _PLACEHOLDER.sub(put, self.text)


def as_material(text: str, *, in_lines: bool) -> str:
    """What somebody wrote, to be read: it neither ends its field nor speaks as the template or the judge."""
    seen = "\n".join(text.splitlines()).translate(_OPENING)
    seen = "".join(c for c in seen if c in "\n\t" or unicodedata.category(c) not in _UNSEEN)
    if in_lines:
        return "\n".join(BAR + line for line in seen.split("\n"))
    return " ".join(seen.split())


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
