"""How a test knows that it failed because there is no network, and for no other reason."""

from __future__ import annotations

import re

_OFFLINE = re.compile(
    r"NewConnectionError|Failed to establish|ProxyError|name resolution|ConnectTimeout|ReadTimeout"
)


def is_offline(output: str) -> bool:
    """Tell whether pip, which wrote `output`, could not reach its index."""
    return _OFFLINE.search(output) is not None
