"""Takes credentials out of what is said: errors of clients repeat addresses, headers and settings as they got them."""

import re
from collections.abc import Iterable

HIDDEN = "***"

_NAMES = (
    r"[\w-]*(?:password|passwd|pwd|secret|token(?!s)|api[_-]?key|access[_-]?key(?:[_-]?id)?|account[_-]?key|private[_-]?key"
    r"|signature|credential|authorization)[\w-]*"
)
_PATTERNS = (
    # scheme://user:password@host; a user alone may be a token
    (re.compile(r"(?<=://)[^\s/?#@'\"<>]+(?=@)"), HIDDEN),
    # what signs an address: of S3, GCS, Azure (`sig`), CloudFront (`Policy`), and keys in general
    (
        re.compile(rf"(?i)(?<=[?&])({_NAMES}|sig|key|policy|auth|code)=[^&\s'\"<>]*?(?=[:;,.]*(?:[&\s'\"<>]|$))"),
        rf"\1={HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    # name=value, name: value, "name": "value"; not what merely talks of a token
    (
        re.compile(
            rf"(?i)((?<![?&\w-]){_NAMES}['\"]?\s*(?:=|:(?!//))\s*)"
            rf"(\"[^\"]*\"|'[^']*'|(?!{re.escape(HIDDEN)})[^\s,;&'\"<>{{}}]+)"
        ),
        rf"\1{HIDDEN}",
    ),
    # by their looks: AWS, Prefect, OpenAI, Hugging Face, GitHub, a private key
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    (re.compile(r"\b(?:pn[ub]_|hf_|gh[pousr]_)[A-Za-z0-9]{16,}"), HIDDEN),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"), HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), HIDDEN),
)

SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "HF_TOKEN",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_KEY",
    "T2S_OPENAI_API_KEY",
)
"""Environment variables whose values are secret, whatever they look like."""
_SHORTEST = 6
"""Characters of a value that is hidden wherever it stands; a shorter one stands in too much by chance."""


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """A text without credentials: `***` stands for each.

    Args:
        text: Of an error, a log line, an address.
        secrets: Values that are hidden wherever they stand, e.g. those of `SECRET_VARIABLES`.

    """
    for secret in sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
