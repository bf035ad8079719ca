"""How many failed tile-queries a run bears before it ends early: a dead server fails a million as fast as one."""

import re
import threading

from t2s_core.errors import BadInput, MachineFault

PATTERN = r"^(\d+|\d+(\.\d+)?%)$"
"""A count, or a share of all tile-queries of the run."""


class TooManyFailed(MachineFault):
    """A run ended early; what it committed is kept."""


class Tolerance:
    """Counts failures over all scenes of a run, from several threads."""

    def __init__(self, max_failed: str | None, n_total: int) -> None:
        """Args: see `RunSpec.max_failed`, None for no limit; `n_total`: tile-queries of the run."""
        self._said, self._limit = max_failed, None if max_failed is None else limit_of(max_failed, n_total)
        self._n_total, self._n_failed = n_total, 0
        self._lock = threading.Lock()

    def count(self, n_failed: int) -> None:
        """Add failures. Raises `TooManyFailed` where they are more than the run bears, and ever after."""
        if self._limit is None:
            return
        with self._lock:
            self._n_failed += n_failed
            if self._n_failed > self._limit:
                raise TooManyFailed(
                    f"{self._n_failed} of {self._n_total} tile-queries failed, --max-failed {self._said} bears "
                    f"{self._limit}: ended early, what was answered is kept; see `t2s status`, mend the cause, and run "
                    "the same command again with --retry-failed"
                )


def limit_of(max_failed: str, n_total: int) -> int:
    """The most failures that are borne."""
    share = max_failed.removesuffix("%")
    return int(max_failed) if share == max_failed else int(n_total * float(share) / 100)


def checked_max_failed(text: str | None) -> str | None:
    """What a user gave. Raises `BadInput`."""
    if text is not None and not re.fullmatch(PATTERN, text):
        raise BadInput(f"max_failed={text} is neither a count nor a share; use e.g. 200 or 5%")
    return text
