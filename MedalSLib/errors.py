"""The errors that users see: each names its cause and the remedy, and each front end shows both."""

from __future__ import annotations


class MedalSError(Exception):
    """An expected failure that is explained to the user instead of shown as a traceback.

    Args:
        cause: What went wrong, in one sentence that names the thing at fault.
        remedy: What the user can do about it, in one sentence; empty if nothing can be done.
    """

    exit_code = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}".strip()


class InputError(MedalSError):
    """An image, mask or file that cannot be used as it is."""

    exit_code = 3


class PromptError(MedalSError):
    """Text that names nothing known, or nothing that the loaded model knows."""

    exit_code = 4


class ModelError(MedalSError):
    """A model that is missing, damaged, of another kind, or not allowed to be fetched."""

    exit_code = 5


class OutputError(MedalSError):
    """A result that cannot be written: file exists, no space, no permission, unknown format."""

    exit_code = 6


class ResourceError(MedalSError):
    """Not enough memory, no such device, or a package that is not installed."""

    exit_code = 7


class ServiceError(MedalSError):
    """A remote engine that cannot be reached, refuses, or speaks another protocol version."""

    exit_code = 8


class CancelledError(MedalSError):
    """The run was cancelled by its user; the session stays usable."""

    exit_code = 130

    def __init__(self, cause: str = "The run was cancelled.", remedy: str = "") -> None:
        super().__init__(cause, remedy)
