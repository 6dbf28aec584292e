"""The names of Slicer's interfaces that our code uses: what they are, where Slicer declares them, as types for mypy.

`slicer_interface.csv` has a line for each: owner (a module or a class), name, kind, type, and the file that declares it
in the sources of Slicer, CTK, PythonQt, VTK or Qt 5.15.  Kinds are those of PythonQt: a *property* is an attribute, a
*method* is called, a *signal* is connected to, a *value* is a constant.  For a class the type is its base, for a
property its type in Python, for a method what it returns (empty: anything), for a function its parameters.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_suffix(".csv")
KINDS = ("module", "class", "function", "property", "method", "static", "signal", "value", "object")
# C++ classes take no keywords; which arguments they take is for the stand-in to check.
_CONSTRUCTOR = "    def __init__(self, *arguments: Any) -> None: ..."


@dataclass(frozen=True)
class Fact:
    """A name of an interface.

    Attributes:
        owner: Module ("slicer.util") or class ("QLabel").
        name: The name; a signal has its parameters, as `connect` wants them.
        kind: One of `KINDS`.
        type: See the module's text.
        declared: The repository and its file.
    """

    owner: str
    name: str
    kind: str
    type: str
    declared: str

    @property
    def word(self) -> str:
        """The name without a signal's parameters."""
        return self.name.partition("(")[0]


def facts(path: Path = FILE) -> list[Fact]:
    """Read the list."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [Fact(**row) for row in csv.DictReader(lines)]


def write_stubs(known: Iterable[Fact], folder: Path) -> None:
    """Write the list as stub packages for mypy, below a folder for its search path."""
    members: dict[str, list[Fact]] = defaultdict(list)
    for fact in known:
        members[fact.owner].append(fact)
    classes = {fact.name: module for module, some in members.items() for fact in some if fact.kind == "class"}
    for module in [name for name in members if name not in classes]:
        path = folder / module.replace(".", "/") / "__init__.pyi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(_module(module, members, classes)) + "\n", encoding="utf-8")


def _module(module: str, members: dict[str, list[Fact]], classes: dict[str, str]) -> list[str]:
    lines = ["from collections.abc import Callable, Iterator, Sequence", "from typing import Any, ClassVar"]
    lines += [f"import {name}" for name in sorted((set(classes.values()) | {"unittest"}) - {module})]
    lines += [
        "class Signal:",
        "    def connect(self, function: Callable[..., object]) -> bool: ...",
        "    def disconnect(self, function: Callable[..., object]) -> bool: ...",
    ]
    for fact in members[module]:
        if fact.kind == "class":
            base = _qualified(fact.type, module, classes) if fact.type else "object"
            body = [line for member in members.get(fact.name, []) for line in _member(member, module, classes)]
            made = [] if any("def __init__(" in line for line in body) else [_CONSTRUCTOR]
            lines += [f"class {fact.name}({base}):", *made, *body]
        elif fact.kind == "module":
            lines.append(f"from {module} import {fact.name} as {fact.name}")
        elif fact.kind == "function":
            lines.append(f"def {fact.name}({_parameters(fact.type)}) -> Any: ...")
        else:
            lines.append(f"{fact.name}: {_qualified(fact.type, module, classes) or 'Any'}")
    return lines


def _member(fact: Fact, module: str, classes: dict[str, str]) -> list[str]:
    if fact.kind == "function":
        own = [] if fact.type.startswith("self") else ["    @staticmethod"]
        result = "None" if fact.name == "__init__" else "Any"
        return [*own, f"    def {fact.name}({_parameters(fact.type)}) -> {result}: ..."]
    kind = _qualified(fact.type, module, classes) or "Any"
    if fact.kind == "method":
        return [f"    def {fact.word}(self, *arguments: Any) -> {kind}: ..."]
    if fact.kind == "static":
        return ["    @staticmethod", f"    def {fact.word}(*arguments: Any) -> {kind}: ..."]
    if fact.kind == "signal":
        return [f"    @property\n    def {fact.word}(self) -> Signal: ..."]
    if fact.kind == "value":
        return [f"    {fact.name}: ClassVar[int]"]
    return [f"    {fact.name}: {kind}"]


def _parameters(text: str) -> str:
    """Return "a, b=1, *, c" with a type for each, defaults left open."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return ", ".join(
        part if part in ("*", "/") else part.partition("=")[0] + ("=..." if "=" in part else "") for part in parts
    )


def _qualified(name: str, module: str, classes: dict[str, str]) -> str:
    owner = classes.get(name.removesuffix(" | None"))
    return name if owner in (None, module) else f"{owner}.{name}"


def undeclared(known: Iterable[Fact], sources: Path) -> list[str]:
    """Return the facts whose file does not have the name, with the reason.

    Args:
        known: The list.
        sources: Folder with checkouts called Slicer, CTK, PythonQt, VTK, SlicerPyTorch and qtbase; facts of a
            repository that is not there are passed over.
    """
    found = []
    for fact in known:
        repository, _, path = fact.declared.partition(" ")
        if not (sources / repository).is_dir():
            continue
        file = sources / repository / path
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
        if text is None:
            found.append(f"{fact.owner}.{fact.name}: there is no {fact.declared}")
        elif not re.search(rf"\b(static_\w+_)?({_spellings(fact)})\b", text):
            found.append(f"{fact.owner}.{fact.name}: {fact.declared} has no such name")
    return found


def _spellings(fact: Fact) -> str:
    """The name as C++ has it: VTK's macros make GetX and SetX of X, PythonQt takes an underscore off Python's words."""
    if fact.kind == "class" and fact.declared.startswith("PythonQt"):
        return f"PythonQtWrapper_{fact.name}"
    if fact.kind == "object" and fact.owner == "slicer":
        return fact.name
    names = {fact.word, fact.word.removesuffix("_"), re.sub(r"^(Get|Set)(?=[A-Z])", "", fact.word)}
    if fact.owner == "slicer.modules":  # attributes are made of the modules' names
        names = {Path(fact.declared).stem.removeprefix("qSlicer").removesuffix("Module")}
    return "|".join(sorted(names))


def main(arguments: list[str]) -> int:
    """Compare the list with the sources: `python slicer_interface.py FOLDER`."""
    problems = undeclared(facts(), Path(arguments[0]))
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    sys.stdout.write(f"{len(facts())} names, {len(problems)} not declared where the list says\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
