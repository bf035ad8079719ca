"""What only the store that it opens may read: passwords and signatures in addresses."""

import re
from urllib.parse import unquote_plus, urlsplit, urlunsplit

_SIGNING = re.compile(
    r"(?i)^(x-amz-.*|x-goog-.*|awsaccesskeyid|googleaccessid|signature|policy|key-pair-id|expires"  # Amazon, Google
    r"|sig|se|sp|sr|st|sv|spr|sip|ss|srt|sks|skt|ske|skv|skoid|sktid|sdd"  # Azure
    r"|(access_?|auth_?|api_?|bearer_?)?(token|key)|password|secret|credentials?|subscription-key)$"
)
"""Names of the parameters that sign an address or say who asks. They come anew each time, and name no object."""


def public(address: str) -> str:
    """An address without its user and password, and without the parameters that sign it; paths stay as they are.

    What it names is the same, so it serves as an identity; it may no longer open.
    """
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:  # no address; whoever opens it says so
        return address.split("?", maxsplit=1)[0]
    pairs = parts.query.split("&")
    kept = [pair for pair in pairs if not _signs(pair)]
    if kept == pairs and host == parts.netloc:
        return address  # as it was spelled
    return urlunsplit(parts._replace(netloc=host, query="&".join(kept)))


def public_all(addresses: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
    """The same of one, several or none."""
    if addresses is None or isinstance(addresses, str):
        return addresses and public(addresses)
    return tuple(map(public, addresses))


def _signs(pair: str) -> bool:
    return _SIGNING.match(unquote_plus(pair.split("=", maxsplit=1)[0])) is not None
