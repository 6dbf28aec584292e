"""Slots as PythonQt calls them: no more arguments than the function takes, and exceptions do not stop the caller."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from qt_host.journal import journal

_UNLIMITED = 99


def slot(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function for a signal; arguments are cut to its positional parameters, those with a default included."""
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called, so no signal can be connected to it")
    count = _parameters(function)

    def call(*arguments: Any) -> None:
        try:
            function(*arguments[:count])
        except Exception as error:
            journal.errors.append(error)

    return call


def _parameters(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return _UNLIMITED
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return _UNLIMITED
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(1 for parameter in parameters if parameter.kind in positional)
