"""Names that are safe as a folder, a Zarr group, a hive partition and an HTML id."""

import hashlib
import re
import unicodedata

MAX_LENGTH = 48
_SLUG = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_FOLDER = re.compile(r"[a-z][a-z0-9_-]{0,127}")
_DEVICES = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")
"""No file may be called so on Windows."""


def is_slug(text: str) -> bool:
    """Lower-case ASCII letters, digits, `-` and `_`, starting with a letter, at most 63 long.

    Lower case only, for two names that differ in case are one folder on some disks.
    """
    return _SLUG.fullmatch(text) is not None


def is_folder(text: object) -> bool:
    """Whether it can name a folder here and nothing elsewhere: a slug, or a scene's id, which may be longer."""
    return isinstance(text, str) and _FOLDER.fullmatch(text) is not None


def slug(text: str, *, prefix: str) -> str:
    """A readable slug of any text, the same today and tomorrow.

    Accents fall away. Where letters of another script are lost or the text is cut, a hash of the text is appended, so
    that two such texts stay apart. `prefix` is put before what does not start with a letter.
    """
    plain = unicodedata.normalize("NFKD", text)
    lost = any(not c.isascii() and c.isalnum() for c in plain)
    words = re.sub(r"[^a-z0-9_]+", "-", plain.lower().encode("ascii", "ignore").decode()).strip("-_")
    if lost or len(words) > MAX_LENGTH or not words:
        words = f"{_cut(words)}-{short_hash(text)}".strip("-")
    return words if words[0].isalpha() and not _DEVICES.fullmatch(words) else f"{prefix}-{words}"


def short_hash(text: str) -> str:
    """Eight hex digits that stand for a text; canonically equal texts share them."""
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _cut(words: str) -> str:
    return words if len(words) <= MAX_LENGTH else words[:MAX_LENGTH].rsplit("-", 1)[0].rstrip("-_")
