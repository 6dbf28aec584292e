"""What runs when Slicer loads the extension, read from the sources: nothing but definitions."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from extension_checks.extension import NAME, Check, Extension

MODULE = f"{NAME}/{NAME}.py"
# What a call at file scope must not reach: other programs, the network, the disk, the application, an installer.
EFFECTS = re.compile(
    r"(subprocess|requests|urllib|http|socket|shutil|tempfile|pip|webbrowser|ctypes|multiprocessing|importlib"
    r"|slicer\.(util|app|modules|mrmlScene|packaging)|qt|torch\.hub|huggingface_hub|os\.(system|popen|environ|make|remove)"
    r"|threading\.Thread)\b.*|open|exec|eval|print|input|__import__|.*\.(write_text|write_bytes|mkdir|unlink|start|download)"
)
# `python -m` of a package starts its program; Slicer loads none of these files.
PROGRAMS = re.compile(r"MedalSLib/.*(__main__|_main)\.py")
PATH_CALL = "sys.path.insert"  # the module finds MedalSLib beside itself
# Slicer ships these; anything else may be missing when its user opens the module.
SHIPPED = {"slicer", "vtk", "qt", "ctk", "numpy", "scipy", "SimpleITK", "requests"}
LIGHT_ROOMS = ("panel", "slicer")


def file_scope(extension: Extension) -> list[str]:
    """Loading a file runs nothing but definitions."""
    found = []
    for name in _sources(extension):
        for node in _statements(extension.tree(name)):
            if isinstance(node, ast.While | ast.With | ast.Delete | ast.Raise | ast.Assert):
                found.append(f"{name}:{node.lineno} has a {type(node).__name__.lower()} at file scope")
            expression = node.value if isinstance(node, ast.Expr) else None
            if isinstance(expression, ast.Call) and not PROGRAMS.fullmatch(name):
                call = ast.unparse(expression.func)
                if not (name == MODULE and call == PATH_CALL):
                    found.append(f"{name}:{node.lineno} calls {call}")
            found += [f"{name}:{node.lineno} calls {call}" for call in _calls(node) if EFFECTS.fullmatch(call)]
    return found


def imports(extension: Extension) -> list[str]:
    """What the module, its panel and what they import bring along at file scope."""
    found = []
    for name in sorted(_loaded(extension)):
        for head in sorted(_imports(extension.tree(name))):
            top = head.split(".")[0]
            if top != "MedalSLib" and top not in SHIPPED | set(sys.stdlib_module_names):
                found.append(f"{name} imports {head}")
    return found


def installations(extension: Extension) -> list[str]:
    """Pip is never asked for torch, and is called in one place only."""
    found = []
    for name in extension.files:
        if re.fullmatch(r"Resources/requirements/(?!constraints).*\.txt", name):
            lines = [line.split("#")[0].strip().lower() for line in extension.text(name).splitlines()]
            found += [f"{name} asks for {line}" for line in lines if re.match(r"torch\b", line)]
    for name in _sources(extension):
        for node in ast.walk(extension.tree(name)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("pip_install", "pip_ensure")):
                if not name.startswith("MedalSLib/panel/install/"):
                    found.append(f"{name}:{node.lineno} installs packages outside of MedalSLib/panel/install")
                if re.search(r"['\"]torch\b", ast.unparse(node)):
                    found.append(f"{name}:{node.lineno} installs torch by pip")
    if not any("PyTorchUtils" in extension.text(name) for name in _sources(extension)):
        found.append("nothing installs torch through the PyTorch extension")
    return found


def classes(extension: Extension) -> list[str]:
    """The four classes of a scripted module, and no error from its constructor."""
    body = extension.tree(MODULE).body
    present = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    found = [f"class {NAME}{part} is missing" for part in ("", "Widget", "Logic", "Test") if NAME + part not in present]
    for part in ("", "Widget"):
        for node in ast.walk(present.get(NAME + part, ast.Module([], []))):
            if isinstance(node, ast.Raise):
                found.append(f"{MODULE}:{node.lineno} raises: the module would stay blank")
    return found


def translations(extension: Extension) -> list[str]:
    """Only literal texts are translated."""
    found = []
    for name in _sources(extension):
        for node in ast.walk(extension.tree(name)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                text = node.args[0] if len(node.args) == 1 else None
                if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                    found.append(f"{name}:{node.lineno} translates what is no literal text")
    return found


def _sources(extension: Extension) -> list[str]:
    return [name for name in extension.files if name == MODULE or re.fullmatch(r"MedalSLib/.*\.py", name)]


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that run when the file is loaded, without those for type checkers and `__main__`."""
    stack: list[ast.stmt] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and re.search("TYPE_CHECKING|__main__", ast.unparse(node.test)):
            continue
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            stack += [child for field in ("body", "orelse", "finalbody") for child in getattr(node, field, [])]
            stack += [child for handler in getattr(node, "handlers", []) for child in handler.body]


def _calls(node: ast.stmt) -> Iterator[str]:
    """Yield the functions that a statement itself calls; those that its inner statements call come with them."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        parts: list[ast.AST] = list(node.decorator_list)
    else:
        parts = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt | ast.ExceptHandler)]
    for part in parts:
        for inner in _walk(part):
            if isinstance(inner, ast.Call):
                yield ast.unparse(inner.func)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Walk an expression without the bodies of lambdas, which do not run yet."""
    yield node
    if not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child)


def _imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module.startswith("MedalSLib"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _loaded(extension: Extension) -> set[str]:
    """Return the files that are loaded with the module, its panel and its glue, through imports at file scope."""
    rooms = "|".join(LIGHT_ROOMS)
    waiting = [name for name in _sources(extension) if name == MODULE or re.match(rf"MedalSLib/({rooms})/", name)]
    loaded: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in loaded or not extension.has(name):
            continue
        loaded.add(name)
        for imported in _imports(extension.tree(name)):
            parts = imported.split(".")
            if parts[0] == "MedalSLib":
                for end in range(1, len(parts) + 1):
                    path = "/".join(parts[:end])
                    waiting += [f"{path}.py", f"{path}/__init__.py"]
    return loaded


CHECKS = (
    Check("Loading a file runs nothing but definitions", "Move the call into a function.", file_scope),
    Check("The panel needs nothing but what Slicer ships", "Import it inside the function that needs it.", imports),
    Check("torch comes through the PyTorch extension, pip is asked in one place", "Use PyTorchUtils.", installations),
    Check("The module has its four classes, and its constructors raise nothing", f"Mend {MODULE}.", classes),
    Check("Translated texts are literals", 'Write _("... {name}").format(name=...).', translations),
)
