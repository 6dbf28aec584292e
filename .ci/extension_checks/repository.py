"""The repository as the Index's bots and Windows users meet it: licence, size, kinds of files, lists of files."""

from __future__ import annotations

import re

import list_extension_files

from extension_checks.extension import NAME, Check, Extension

LICENCE_FILES = ("LICENSE", "LICENCE", "License.txt", "license.txt", "LICENSE.txt", "COPYING", "COPYING.txt")
REPOSITORY_LIMIT = 100 * 1024**2  # the Index's, with .git
FILE_LIMIT = 10 * 1024**2
PATH_LIMIT = 120  # Windows allows 260; the rest is for the folder that Slicer is installed in
EXECUTABLES = {".exe", ".dll", ".so", ".dylib", ".pyd", ".pyc", ".pyo", ".jar", ".msi", ".bat", ".ps1"}
ARCHIVES = {".whl", ".egg", ".zip", ".gz", ".tar", ".7z"}
PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".onnx"}
NATIVE = {".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".hxx", ".cu"}


def licence(extension: Extension) -> list[str]:
    """The licence file, and its name on the homepage."""
    present = [name for name in LICENCE_FILES if name in extension.files]
    if not present:
        return ["there is no licence file in the root"]
    found = []
    if "Apache License" not in extension.text(present[0]) or "Version 2.0" not in extension.text(present[0]):
        found.append(f"{present[0]} is not the text of Apache-2.0")
    for name in ("README.md", "pyproject.toml"):
        if "Apache-2.0" not in extension.text(name):
            found.append(f"{name} does not name the licence (Apache-2.0)")
    return found


def size(extension: Extension) -> list[str]:
    """Size of a checkout, with git's own files."""
    inside = sum((extension.root / name).stat().st_size for name in extension.files)
    git = extension.root / ".git"
    history = sum(path.stat().st_size for path in git.rglob("*") if path.is_file()) if git.is_dir() else 0
    total = inside + history
    return [f"it is {total / 1024**2:.0f} MiB"] if total > REPOSITORY_LIMIT else []


def large_files(extension: Extension) -> list[str]:
    """No file that belongs on a server."""
    sizes = {name: (extension.root / name).stat().st_size for name in extension.files}
    return [f"{name} is {count / 1024**2:.0f} MiB" for name, count in sizes.items() if count > FILE_LIMIT]


def forbidden_files(extension: Extension) -> list[str]:
    """No executables, archives, pickles or native sources."""
    found = []
    for name in extension.files:
        suffix = "." + name.rsplit(".", 1)[-1].lower() if "." in name.rsplit("/", 1)[-1] else ""
        if suffix in EXECUTABLES | ARCHIVES | PICKLES:
            found.append(f"{name}: executables, archives and pickles can hide code")
        elif suffix in NATIVE:
            found.append(f"{name}: with native sources the package has to be built for every platform")
    return found


def portable_names(extension: Extension) -> list[str]:
    """File names that every system can have."""
    found = [f"{name} has {len(name)} characters" for name in extension.files if len(name) > PATH_LIMIT]
    found += [f"{name!r} cannot be a name on Windows" for name in extension.files if re.search(r'[<>:"\\|?*]', name)]
    lower: dict[str, str] = {}
    for name in extension.files:
        other = lower.setdefault(name.lower(), name)
        if other != name:
            found.append(f"{name} and {other} differ only in case")
    return [*found, *(f"{name} is a link" for name in extension.files if (extension.root / name).is_symlink())]


def listed_files(extension: Extension) -> list[str]:
    """CMake's lists are the tree."""
    found = []
    for name, (folder, suffixes) in list_extension_files.LISTS.items():
        listed = extension.listed(name)
        there = list_extension_files.files(folder, suffixes, extension.root)
        found += [f"{path} is not listed" for path in there if path not in listed]
        found += [f"{path} is listed and is not there" for path in listed if path not in there]
        found += [f"{path} is listed twice" for path in sorted(set(listed)) if listed.count(path) > 1]
    return found


def module_folder(extension: Extension) -> list[str]:
    """Slicer takes every Python file of the module's folder for a module."""
    others = [name for name in extension.files if re.fullmatch(rf"{NAME}/[^/]+\.py", name)]
    return [f"{name} would be taken for a module" for name in others if name != f"{NAME}/{NAME}.py"]


def build_files(extension: Extension) -> list[str]:
    """The CMake files have what Slicer's template has, in its order."""
    top, module = extension.text("CMakeLists.txt"), extension.text(f"{NAME}/CMakeLists.txt")
    order = (
        "cmake_minimum_required(VERSION",
        f"project({NAME})",
        "find_package(Slicer REQUIRED)",
        "include(${Slicer_USE_FILE})",
        f"add_subdirectory({NAME})",
        "## NEXT_MODULE",
        "include(${Slicer_EXTENSION_GENERATE_CONFIG})",
        "include(${Slicer_EXTENSION_CPACK})",
    )
    found = [f"CMakeLists.txt lacks {text}" for text in order if text not in top]
    places = [top.find(text) for text in order if text in top]
    if places != sorted(places):
        found.append("CMakeLists.txt is not in the template's order")
    for text in ("slicerMacroBuildScriptedModule(", "WITH_GENERIC_TESTS", "slicer_add_python_unittest("):
        if text not in module:
            found.append(f"{NAME}/CMakeLists.txt lacks {text}")
    return found


CHECKS = (
    Check("A permissive licence is in the root and named on the homepage", "Add LICENSE.txt; name it.", licence),
    Check("The repository is below 100 MiB", "Take large files out of the history.", size),
    Check("No file is larger than 10 MiB", "Put it on a server, with its digest.", large_files),
    Check("There are no executables, archives, pickles or native sources", "Take them out.", forbidden_files),
    Check("File names work on every system", "Rename them.", portable_names),
    Check("CMake's lists of files are the tree", "Run: python .ci/list_extension_files.py", listed_files),
    Check("The module's folder has one Python file", "Move the others to MedalSLib.", module_folder),
    Check("The CMake files follow Slicer's template", "Compare with Slicer's Utilities/Templates.", build_files),
)
