"""The extension as it lies in a folder: its files and the three descriptions, read once for all checks."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import list_extension_files

NAME = "MedalS"
SKIPPED = {".git", ".venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", "output"}


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        title: What holds when the check passes.
        remedy: What to do when it does not.
        find: Returns what is wrong, one sentence each; nothing if the check passes.
    """

    title: str
    remedy: str
    find: Callable[[Extension], list[str]]


class Extension:
    """A checkout of the extension.

    Args:
        root: Folder with the top-level CMakeLists.txt.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that belong to the repository, as git has them; without git, of all files."""
        done = None
        if (self.root / ".git").exists():
            command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
            done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if done is not None and done.returncode == 0:
            names = set(done.stdout.split("\0")) - {""}
        else:
            names = {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}
        return tuple(sorted(name for name in names if not SKIPPED & set(name.split("/")) and self.has(name)))

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.root / name).is_file()

    def text(self, name: str) -> str:
        """Return a text file; a missing one is empty, for which another check has the words."""
        path = self.root / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def tree(self, name: str) -> ast.Module:
        """Return the syntax tree of a Python file; of a broken one, nothing (the check of the package says so)."""
        return _parsed(self.text(name))

    @cached_property
    def cmake(self) -> dict[str, str]:
        """The values of `set(EXTENSION_... "...")` by the second part of their name, in capitals."""
        return dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"\n]*)"\)', self.text("CMakeLists.txt"), re.MULTILINE))

    @cached_property
    def catalog(self) -> dict[str, object]:
        """The catalog entry; empty if it cannot be read."""
        try:
            entry = json.loads(self.text(f"{NAME}.json"))
        except json.JSONDecodeError:
            return {}
        return entry if isinstance(entry, dict) else {}

    @cached_property
    def description(self) -> dict[str, str]:
        """The old description file: keyword and value of each line."""
        lines = [line.strip() for line in self.text(f"{NAME}.s4ext").splitlines()]
        pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
        return {keyword: value.strip() for keyword, _, value in pairs}

    @cached_property
    def packaged(self) -> dict[str, str]:
        """Source file by its place in Slicer's modules folder, from the calls of `slicerMacroBuildScriptedModule`."""
        found: dict[str, str] = {}
        for folder in ("", *re.findall(r"^add_subdirectory\((\S+)\)", self.text("CMakeLists.txt"), re.MULTILINE)):
            prefix = f"{folder}/" if folder else ""
            for place in _module_files(self.text(f"{prefix}CMakeLists.txt")):
                found[place] = prefix + place
        return found

    def listed(self, name: str) -> list[str]:
        """Return a list of the top-level CMakeLists.txt; see `list_extension_files`."""
        try:
            return list_extension_files.listed(self.text("CMakeLists.txt"), name)
        except SystemExit:
            return []


@lru_cache(maxsize=2048)
def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module([], [])


def _module_files(text: str) -> list[str]:
    """Return the SCRIPTS and RESOURCES of a CMakeLists.txt, with variables replaced.

    Slicer's macro adds `.py` to a script without it and copies each file to the same relative path in its folder
    `qt-scripted-modules` (`CMake/SlicerMacroBuildScriptedModule.cmake`, CTK's `ctkMacroCompilePythonScript.cmake`).
    """
    plain = re.sub(r"#.*", "", text)
    variables = dict(re.findall(r"set\(\s*(\w+)\s+([^()]*)\)", plain))
    names: list[str] = []
    for call in re.findall(r"slicerMacroBuildScriptedModule\(([^()]*)\)", plain):
        words = re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], ""), call).split()
        keyword = ""
        for word in words:
            if word in ("NAME", "SCRIPTS", "RESOURCES", "WITH_GENERIC_TESTS", "WITH_SUBDIR", "VERBOSE"):
                keyword = word
            elif keyword == "SCRIPTS":
                names.append(word if word.endswith(".py") else f"{word}.py")
            elif keyword == "RESOURCES":
                names.append(word)
    return names
