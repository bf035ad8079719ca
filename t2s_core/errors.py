"""The exception tree.

    T2sError
    ├── BadInput        what the user gave cannot work: one line per problem, exit code 2
    ├── MachineFault    hardware, driver, storage or server let us down: the work may be retried
    └── ContractError   an implementation broke the promise of its port: a bug, never retried

A model that answers badly raises nothing: its reply is `replies.Unparsable`, a value.
"""

from collections.abc import Sequence


class T2sError(Exception):
    """Everything that t2s raises on purpose."""


class BadInput(T2sError):
    """Input that cannot work. Each problem is one line: the value, the limit, the way out."""

    def __init__(self, *problems: str) -> None:
        """Args: one line per problem, at least one."""
        if not problems:
            raise ValueError("BadInput needs at least one problem")
        self.problems: Sequence[str] = problems
        super().__init__("\n".join(problems))


class MachineFault(T2sError):
    """A broken machine, not a bad answer: scoring it or storing it as "nothing there" would be a lie."""


class ContractError(T2sError):
    """An implementation of a port returned what its protocol forbids."""
