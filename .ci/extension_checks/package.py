"""What Slicer's macros would package, laid out in a folder, and loaded from there."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from extension_checks.extension import NAME, Check, Extension

MODULES = Path("lib", "Slicer-5.12", "qt-scripted-modules")
SUPPORT = Path(__file__).resolve().parents[2] / "Testing" / "support"
LOADER = SUPPORT / "installed_extension.py"
OLDEST = {NAME: (3, 9), "MedalSLib": (3, 10)}  # Slicer 5.8 must be able to read its refusal; 5.10 has Python 3.12


def lay_out(extension: Extension, folder: Path) -> Path:
    """Copy the extension's files to where Slicer's package has them.

    Args:
        extension: The checkout.
        folder: An empty folder; stands for the installation.

    Returns:
        Slicer's folder of scripted modules.
    """
    modules = folder / MODULES
    for place, source in extension.packaged.items():
        target = modules / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if extension.has(source):
            shutil.copyfile(extension.root / source, target)
    return modules


def layout(extension: Extension) -> list[str]:
    """The package holds the module, the library beside it and the resources beside both."""
    heads = sorted({place.split("/")[0] for place in extension.packaged})
    expected = sorted([f"{NAME}.py", "MedalSLib", "Resources"])
    found = [] if heads == expected else [f"it would hold {heads}, not {expected}"]
    for place, source in extension.packaged.items():
        if place.startswith(("..", "/")):
            found.append(f"{place} would lie outside of the package")
        elif not extension.has(source):
            found.append(f"{source} is not there")
    return found


def syntax(extension: Extension) -> list[str]:
    """Every packaged script can be read by the oldest Python it meets."""
    found = []
    for place, source in extension.packaged.items():
        version = OLDEST[NAME if place == f"{NAME}.py" else "MedalSLib"]
        if place.endswith(".py") and extension.has(source):
            try:
                ast.parse(extension.text(source), feature_version=version)
            except SyntaxError as error:
                found.append(f"{source}:{error.lineno} is not Python {version[0]}.{version[1]}: {error.msg}")
    return found


def resources(extension: Extension) -> list[str]:
    """Every resource that the code asks for by name is packaged."""
    places = set(extension.packaged)
    folders = {place.rsplit("/", end)[0] for place in places for end in range(1, place.count("/") + 1)}
    found = []
    for source in extension.packaged.values():
        if not source.endswith(".py"):
            continue
        for node in ast.walk(extension.tree(source)):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) in ("resource", "resources.resource")):
                continue
            parts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            path = "/".join(["Resources", *parts])
            if len(parts) == len(node.args) and path not in places | folders:
                found.append(f"{source}:{node.lineno} asks for {path}, which is not packaged")
    return found


def why_not_loaded() -> str:
    """The reason why the package cannot be loaded here, empty if it can."""
    program = "import sys; sys.path.insert(0, sys.argv[1])\nfrom slicer_host import why_not as core\n"
    program += "from qt_host import why_not as qt\nprint(core() or qt())"
    if not LOADER.is_file():
        return "Testing/support is not beside this script"
    done = subprocess.run([sys.executable, "-c", program, str(SUPPORT)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip()[-300:]


def loads(extension: Extension) -> list[str]:
    """The module is loaded from the package, in a process of its own, and its panel is set up, shown and closed."""
    with tempfile.TemporaryDirectory(prefix="medals-package-") as folder:
        modules = lay_out(extension, Path(folder))
        command = [sys.executable, "-I", str(LOADER), str(modules)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.strip() and not re.match(r"\s+(File|at) ", line)]
    return [] if done.returncode == 0 else ["; ".join(lines[-2:])[-600:] or f"it ended with status {done.returncode}"]


CHECKS = (
    Check("The package holds the module, the library and the resources", "Mend the lists of CMakeLists.txt.", layout),
    Check("Packaged scripts can be read by the oldest Python of theirs", "Write it in older words.", syntax),
    Check("Resources that the code asks for are packaged", "Run: python .ci/list_extension_files.py", resources),
)
LOADING = Check("What is installed loads, and its panel opens and closes", "Mend what the message names.", loads)
