"""The layer table of Documentation/architecture.md, enforced: who may import whom, and which heavy packages where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "MedalSLib"

BASE = {"atomic_files", "errors", "html_page", "records", "resources", "__version__"}
# What is asked of a run and what comes of it: the same classes from inference to the panel.
RUN = "run"
ROOMS: dict[str, set[str]] = {
    "vocabulary": set(),
    "volume": {"vocabulary"},
    "network": {"vocabulary", "volume"},
    "inference": {"vocabulary", "volume", "network"},
    "engine": {"vocabulary", "volume", "network", "inference"},
    "service": {"vocabulary", "volume", "network", "inference", "engine"},
    "slicer": {"vocabulary", "volume", "network", "inference", "engine"},
    "panel": {"vocabulary", "volume", "network", "inference", "engine", "service", "slicer"},
    "training": {"vocabulary", "volume", "network", "inference"},
    "evaluation": {"vocabulary", "volume", "network", "inference", "engine"},
    "view": {"vocabulary", "volume", "network", "inference", "engine", "service", "slicer", "panel"},
    "cli": {"vocabulary", "volume", "network", "inference", "engine", "service", "training", "evaluation", "view"},
}
TORCH_ROOMS = {"network", "inference", "training"}
SLICER_ROOMS = {"slicer", "panel", "view"}
QT_ROOMS = {"panel"}
PAGE_ROOMS = {"view"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(LIBRARY.rglob("*.py")):
        yield path.relative_to(LIBRARY).parts[0].removesuffix(".py"), path


def imports(path: Path, top_level_only: bool) -> set[str]:
    """Names of the modules a file imports; with `top_level_only`, imports inside functions are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[ast.AST] = []
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        nodes.append(node)
        for child in ast.iter_child_nodes(node):
            if top_level_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and top_level_only:
                continue
            stack.append(child)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            if node.module == "MedalSLib":
                found |= {f"MedalSLib.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level > 0:
            found.add("." * node.level)
    return found


@pytest.mark.parametrize(("room", "path"), list(modules()), ids=lambda value: str(value).split("MedalSLib/")[-1])
def test_a_file_imports_only_what_its_room_may(room: str, path: Path) -> None:
    anywhere = imports(path, top_level_only=False)
    at_import = imports(path, top_level_only=True)
    assert not {name for name in anywhere if name.startswith(".")}, "relative imports hide the layers: write them out"
    if room == RUN:
        seen = {name.split(".")[1] for name in anywhere if name.startswith("MedalSLib.")}
        assert seen <= {"volume"}
    if room in ROOMS:
        seen = {name.split(".")[1] for name in anywhere if name.startswith("MedalSLib.")}
        assert seen <= ROOMS[room] | BASE | {room} | ({RUN} if "inference" in {*ROOMS[room], room} else set())
    heads = {name.split(".")[0] for name in at_import}
    heads_anywhere = {name.split(".")[0] for name in anywhere}
    if room not in TORCH_ROOMS:
        assert not heads & {"torch", "transformers", "monai", "ray"}, "import it inside the function that needs it"
    if room not in SLICER_ROOMS:
        assert not heads_anywhere & {"slicer", "vtk", "ctk", "qt"}
    if room not in QT_ROOMS:
        assert not heads_anywhere & {"qt", "ctk"}
    if room not in PAGE_ROOMS:
        assert not heads_anywhere & {"trame", "trame_slicer", "trame_server", "greenlet", "aiohttp"}


@pytest.mark.parametrize(
    "module", ["MedalSLib.vocabulary", "MedalSLib.service.client", "MedalSLib.panel", "MedalSLib.engine"]
)
def test_a_slicer_without_torch_can_import(module: str) -> None:
    """Blocks the heavy packages and imports: what a light install for remote use needs must not touch them."""
    heavy = "torch transformers scipy nibabel pydicom highdicom SimpleITK matplotlib monai ray fastapi qt slicer vtk"
    program = (
        "import sys\n"
        f"blocked = set({heavy!r}.split())\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ImportError('blocked: ' + name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"import {module}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_names_every_room() -> None:
    rooms = {path.parent.name for path in LIBRARY.glob("*/__init__.py") if not path.parent.name.startswith("_")}
    assert rooms == set(ROOMS)


def import_graph() -> dict[str, set[str]]:
    """Who imports whom within the library, also inside functions and for types alone: that is what a reader follows."""
    files = {path.relative_to(LIBRARY).with_suffix("").as_posix().replace("/", "."): path for _, path in modules()}
    found = {module: imported(path) for module, path in files.items()}
    return {module: {other for other in files if f"MedalSLib.{other}" in found[module]} for module in files}


def imported(path: Path) -> set[str]:
    """Every `module` and `module.name` that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """What is imported from here, over any number of steps; the start itself only if a circle leads back."""
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        ahead += (new := graph[ahead.pop()] - reached)
        reached |= new
    return reached


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules each of which imports, in the end, all the others of its set."""
    reached = {module: reachable(graph, module) for module in graph}
    found = {frozenset(other for other in reached[module] if module in reached[other]) for module in graph}
    return [set(one) for one in found if one]


def test_no_modules_import_each_other() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]
    assert circles(import_graph()) == []
