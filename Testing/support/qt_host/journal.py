"""What went wrong behind Qt's back, and the answers that a test has prepared for dialogs."""

from __future__ import annotations

from typing import Any


class Journal:
    """Keeps exceptions that were raised in slots, and prepared answers."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.answers: list[Any] = []

    def clear(self) -> None:
        self.errors.clear()
        self.answers.clear()

    def answer(self, what: str) -> Any:
        """Return the prepared answer for a modal dialog; without one, the dialog would hang Slicer's tests."""
        if not self.answers:
            error = AssertionError(f"a modal dialog was opened that no answer was prepared for: {what}")
            self.errors.append(error)
            raise error
        return self.answers.pop(0)

    def check(self) -> None:
        """Raise the first exception of a slot."""
        if self.errors:
            errors = list(self.errors)
            self.errors.clear()
            raise AssertionError(f"{len(errors)} exception(s) in slots, the first: {errors[0]!r}") from errors[0]


journal = Journal()
