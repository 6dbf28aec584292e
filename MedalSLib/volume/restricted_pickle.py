"""Read the pickled dictionary of a challenge npz without running anything that is in it.

The challenge stores `text_prompts` as a NumPy object array, which NumPy can only read by unpickling.  Here a pickle is
first checked opcode by opcode, then rebuilt with inert stand-ins for the few NumPy names that such an array needs: no
function that a file names is ever called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np

from MedalSLib.errors import InputError

MAX_BYTES = 4 << 20
_MAX_NODES, _MAX_DEPTH = 100_000, 12
# fmt: off
_ALLOWED = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE", "BINPUT",
    "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "SHORT_BINSTRING", "BINSTRING",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
))
# fmt: on
_SCALARS = frozenset(("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "b1"))


class _Inert:
    """Cannot be given a state, which a pickle could otherwise use to replace attributes."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a state where none belongs")


class _Dtype:
    """Stands for a numpy.dtype: keeps its code and byte order, does nothing."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.lstrip("<>=|") if isinstance(code, str) else ""
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


class _Array:
    """Stands for a numpy.ndarray: keeps the objects of its state."""

    def __init__(self, *_: Any) -> None:
        self.shape: Any = None
        self.data: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array in an unknown form")
        _, self.shape, self.dtype, _, self.data = state


class _Scalar(_Inert):
    """Stands for a NumPy number."""

    def __init__(self, dtype: Any, data: Any) -> None:
        known = isinstance(dtype, _Dtype) and dtype.code in _SCALARS
        if not known or not isinstance(data, bytes | str) or len(data) != int(dtype.code[1]):
            raise pickle.UnpicklingError("a number in an unknown form")
        raw = data.encode("latin1") if isinstance(data, str) else data
        self.value = np.frombuffer(raw, dtype=dtype.order + dtype.code)[0].item()


class _Encode(_Inert):
    """Stands for codecs.encode, with which old pickles write bytes as text."""

    def __call__(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("bytes in an unknown form")
        return text.encode("latin1")


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "ndarray",  # only named, never called
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encode(),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object outside of the file")


def plain_values(data: bytes, what: str) -> Any:
    """Return the value that a pickle describes, made of dict, list, str, int, float, bool and None only.

    Args:
        data: The pickle, at most `MAX_BYTES`; an array of objects comes back as a list, one without axes as its value.
        what: Words for the error, such as "text_prompts of case.npz".

    Raises:
        InputError: The pickle is damaged, too large, or contains anything else; nothing of it was run.
    """
    remedy = "Do not open this file with other programs, and get it again from its source."
    if len(data) > MAX_BYTES:
        raise InputError(f"The {what} has {len(data)} bytes, too many for a few sentences.", remedy)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in _ALLOWED:
                raise pickle.UnpicklingError(f"it uses {opcode.name}")
            if opcode.name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in _NAMES:
                raise pickle.UnpicklingError(f"it asks for {str(argument).replace(' ', '.')}")
        loaded = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        return _Plain().of(loaded, 0)
    except InputError:
        raise
    except Exception as error:  # a malicious pickle can make the machinery raise anything
        raise InputError(
            f"The {what} holds more than text and numbers ({error}), so it was not opened.", remedy
        ) from error


class _Plain:
    """Turns stand-ins and containers into plain values, counting them so that a small file cannot become a huge one."""

    def __init__(self) -> None:
        self.nodes = 0

    def of(self, value: Any, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise pickle.UnpicklingError("too much or too deeply nested")
        if value is None or type(value) in (str, int, float, bool):
            return value
        if isinstance(value, _Scalar):
            return value.value
        if isinstance(value, list | tuple):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, _Array) and isinstance(value.data, list | tuple):
            if value.shape == () and len(value.data) == 1:
                return self.of(value.data[0], depth + 1)
            return self.of(value.data, depth + 1)
        if isinstance(value, dict):
            return {self._key(key): self.of(item, depth + 1) for key, item in value.items()}
        raise pickle.UnpicklingError(f"a value of the type {type(value).__name__.lstrip('_')}")

    @staticmethod
    def _key(key: Any) -> str | int:
        if isinstance(key, _Scalar):
            key = key.value
        if type(key) not in (str, int):
            raise pickle.UnpicklingError("a key that is neither text nor number")
        return key
