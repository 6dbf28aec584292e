"""JSON to frozen dataclasses and back, with errors that name the entry that is wrong.

Manifests of models, configurations of networks, recipes and indexes of prepared cases are all read here.  pydantic does
the same but is no dependency outside the server; `service.protocol.from_json` leaves out what a newer server added,
where this refuses it; dataclass readers without dependencies (dacite) do not name unknown entries with their path.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from MedalSLib.errors import InputError, ModelError

Record = TypeVar("Record")


def to_json(record: Any) -> dict[str, Any]:
    """Return a dataclass as JSON-ready values that `from_json` reads back."""
    return json.loads(json.dumps(asdict(record)))


def from_json(kind: type[Record], values: Any, where: str) -> Record:
    """Build a dataclass from a mapping, checking names and types all the way down.

    Args:
        kind: The dataclass; its fields may be dataclasses, tuples, dicts, literals and optional.
        values: What JSON gave; entries with a default may be missing.
        where: What is read, for messages ("the recipe").

    Raises:
        InputError: An entry is unknown, missing or of the wrong type; the message names it.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is not a table of entries.", "Correct the file.")
    hints = field_types(kind)
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]  # every kind passed here is a dataclass
    if unknown := sorted(set(values) - known):
        raise InputError(f"{where} has the unknown entry {unknown[0]}.", f"Known are: {', '.join(sorted(known))}.")
    read = {key: _value(hints[key], value, f"{where}, {key}") for key, value in values.items()}
    try:
        return kind(**read)
    except TypeError as error:  # a field without a default is missing
        raise InputError(f"{where} is not complete ({error}).", "Add what is missing.") from error


def model_record(kind: type[Record], values: Any, where: str) -> Record:
    """Build a dataclass that is part of a model (see `from_json`).

    Args:
        kind: The dataclass.
        values: What JSON gave.
        where: What is read, for messages.

    Raises:
        ModelError: An entry is unknown, missing or of the wrong type; the message names it.
    """
    try:
        return from_json(kind, values, where)
    except InputError as error:
        raise ModelError(error.cause, "Get the model again; if it is of a newer Medal S, update.") from error


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Raises:
        InputError: It cannot be read or is not JSON; `what` names it in the message ("recipe").
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The {what} {path} cannot be read ({error.strerror}).", "Check its path.") from error
    except ValueError as error:
        raise InputError(f"The {what} {path} is not valid JSON ({error}).", "Correct the file.") from error


def field_types(kind: Any) -> dict[str, Any]:
    """Return the annotated types of a dataclass's fields; kept, as a file or a request may have a thousand records."""
    return _hints(kind)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    wrong = InputError(f"{where} is {value!r}, which is not what belongs there.", "Correct the file.")
    if hint is Any:
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value, where)
    if origin in (Union, types.UnionType):  # only `X | None` is used
        if value is None and type(None) in arguments:
            return None
        return _value(next(kind for kind in arguments if kind is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where} is {value!r}.", f"It is one of: {', '.join(map(str, arguments))}.")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise wrong
        kinds = [arguments[0]] * len(value) if arguments[1:] == (Ellipsis,) else list(arguments)
        if len(value) != len(kinds):
            raise wrong
        return tuple(_value(kind, entry, where) for kind, entry in zip(kinds, value, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise wrong
        return {_key(arguments[0], key, wrong): _value(arguments[1], entry, where) for key, entry in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise wrong
    return value


def _key(kind: type[Any], key: Any, wrong: InputError) -> Any:
    """Return the key of a dict; JSON has texts only, so that numbers come as texts."""
    try:
        return kind(key)
    except ValueError as error:
        raise wrong from error
