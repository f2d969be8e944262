"""What must never be shown: keys, and the user names and passwords of addresses. Masked first, cut afterwards.

Text that is cut before it is masked may end in the first half of a key; so whoever quotes a server masks the whole of
what it quotes.
"""

from collections.abc import Iterable
from urllib.parse import unquote

MASK = "***"
LEAST = 4


def shown_url(url: str) -> str:
    """The address without user name, password and query."""
    start, query, _ = url.partition("?")
    scheme, slashes, rest = start.partition("://")
    if not slashes:
        scheme, rest = "", start
    place, slash, path = rest.partition("/")
    who, at, host = place.rpartition("@")
    return f"{scheme}{slashes}{MASK if who else ''}{at}{host}{slash}{path}" + (f"?{MASK}" if query else "")


def secrets_of(url: str, key: str | None = None) -> tuple[str, ...]:
    """Everything of an address and its key that must not be shown, the longest first; words of less than four
    characters, which stand in many a sentence, only together with their user name."""
    start, _, query = url.partition("?")
    who = start.partition("://")[2].partition("/")[0].rpartition("@")[0]
    password = who.partition(":")[2] or who
    found = {key or "", who, password, unquote(who), unquote(password), query}
    return tuple(sorted((secret for secret in found if len(secret) >= LEAST), key=len, reverse=True))


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
