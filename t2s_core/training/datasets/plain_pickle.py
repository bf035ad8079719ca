"""Reading a pickle that may hold anything, but may only hold plain values.

A pickle is a program: unpickling one from the internet runs what its author wanted. Lists, dicts, tuples, texts and
numbers need no name from any module, so every name but the sets' is refused before it is looked up.
"""

import io
import pickle
import pickletools

from t2s_core.errors import BadInput

_ALLOWED = {
    (module, name): cls
    for module in ("builtins", "__builtin__")
    for name, cls in (("set", set), ("frozenset", frozenset))
}
_MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,  # UnicodeDecodeError among them
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> type:
        found = _ALLOWED.get((module_name, global_name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return found


def load_plain(raw: bytes, what: str) -> object:
    """The value of a pickle of plain containers, texts and numbers; byte strings of Python 2 are read as UTF-8.

    Raises:
        BadInput: It holds anything else, or is no pickle. `what` names it.

    """
    try:
        _check_memo(raw)
        value: object = _PlainUnpickler(io.BytesIO(raw), encoding="utf-8").load()
    except _MALFORMED as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise BadInput(
            f"{what}: is no pickle of plain lists, dicts, texts and numbers ({reason}); nothing of it was run; "
            "download it again from its publisher"
        ) from problem
    return value


def _check_memo(raw: bytes) -> None:
    """Raise where a value is remembered under a number that no honest writer reaches: room is made up to that number.

    Ten bytes could otherwise ask for tens of gigabytes.
    """
    for opcode, number, _ in pickletools.genops(raw):
        if opcode.name in {"PUT", "LONG_BINPUT"} and isinstance(number, int) and number > len(raw):
            raise pickle.UnpicklingError(f"it remembers a value as number {number}")
