"""The frame of every report: one HTML document with its style inside, and how text and numbers are written.

Owns escaping. Everything that comes from a model, a file or a recipe passes through `text`. Pages hold no
script, load nothing from anywhere, and say so in a content security policy, so that a browser would refuse
it too. Knows nothing of runs, metrics or scenes.
"""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from importlib import resources

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
MINUS = "\N{MINUS SIGN}"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def text(value: object) -> str:
    """Any value as HTML text: markup escaped, control characters and lone surrogates made visible."""
    return html.escape("".join(_visible(character) for character in str(value)), quote=True)


def page(*, title: str, body: str, description: str = "") -> str:
    """A whole document around `body`, which is HTML already."""
    style = resources.files("sightline.reports").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta name="description" content="{text(description or title)}">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def section(heading: str, body: str, *, anchor: str, lead: str = "") -> str:
    """A titled part of the page; `heading` and `lead` are plain text, `body` is HTML."""
    introduction = f'<p class="lead">{text(lead)}</p>\n' if lead else ""
    return f'<section id="{text(anchor)}">\n<h2>{text(heading)}</h2>\n{introduction}{body}\n</section>'


def navigation(entries: Mapping[str, str]) -> str:
    """Links to the sections: anchor -> name."""
    links = "".join(f'<li><a href="#{text(anchor)}">{text(name)}</a></li>' for anchor, name in entries.items())
    return f'<nav aria-label="Parts of this report"><ul>{links}</ul></nav>'


def definitions(entries: Mapping[str, object]) -> str:
    """Names and values, as a list that becomes columns on a wide screen."""
    rows = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in entries.items())
    return f'<dl class="facts">{rows}</dl>'


def bullets(entries: Sequence[str]) -> str:
    """A list of sentences."""
    return '<ul class="notes">' + "".join(f"<li>{text(entry)}</li>" for entry in entries) + "</ul>"


def picture_uri(data: bytes) -> str:
    """A PNG or JPEG file as a data URI, so that the page needs no second file."""
    kind = next((kind for signature, kind in _SIGNATURES.items() if data.startswith(signature)), None)
    if kind is None:
        raise ValueError(f"report picture: {len(data)} bytes that are no PNG or JPEG file; encode the picture as PNG")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def fixed(value: float, digits: int, *, signed: bool = False) -> str:
    """A number with a true minus sign and, when asked, an explicit plus; never "-0.0"."""
    if not math.isfinite(value):
        return "not finite"
    rounded = round(value, digits) + 0.0
    sign = MINUS if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}{abs(rounded):,.{digits}f}"


def percent(value: float, *, digits: int = 1, signed: bool = False) -> str:
    """A fraction as percent: 0.123 is 12.3%."""
    return fixed(value * 100, digits, signed=signed) + ("%" if math.isfinite(value) else "")


def compact(value: float) -> str:
    """A number of unknown size in at most four significant digits."""
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e7):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", MINUS)
    if size >= 1000 or value == int(value):
        return fixed(value, 0)
    return fixed(value, max(0, 3 - math.floor(math.log10(size))))


def _visible(character: str) -> str:
    code = ord(character)
    hidden = (code < 32 and character not in "\n\t") or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000
    return REPLACEMENT if hidden else character
