"""The extension passes the checks of the Extensions Index, each check fails when its rule is broken, and it loads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ci"))

import check_extension  # noqa: E402
from extension_checks import package  # noqa: E402
from extension_checks.extension import Check, Extension  # noqa: E402

pytestmark = pytest.mark.slow

HERE = Extension(ROOT)
CHECKS = {check.title: check for check in check_extension.CHECKS}


class Copy:
    """A copy of what the checks look at, to break."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in HERE.files:
            if name.endswith(".safetensors"):
                self.write(name, b"")  # nobody looks inside
            elif not name.startswith("Testing/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace a text that is there."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old!r} to break"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def entry(self, **values: object) -> None:
        """Change keys of the catalog entry; None takes one out."""
        path = self.folder / "MedalS.json"
        merged = {**json.loads(path.read_text(encoding="utf-8")), **values}
        kept = {key: value for key, value in merged.items() if value is not None}
        path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")

    def problems(self, check: Check) -> list[str]:
        return check.find(Extension(self.folder))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


@pytest.mark.parametrize("title", CHECKS)
def test_the_extension_passes(title: str) -> None:
    assert CHECKS[title].find(HERE) == [], CHECKS[title].remedy


README, TUTORIAL, MODULE, CMAKE = "README.md", "Documentation/tutorial.md", "MedalS/MedalS.py", "CMakeLists.txt"
ICON, PANEL = "Resources/Icons/MedalS.png", "MedalSLib/panel/widgets/panel_view.py"
JSON_FORM = "The catalog entry is JSON with LF line ends"
JSON_KEYS = "The catalog entry has the keys of its schema and no others"
NAMES = "The extension's name is the project's and the files'"
REPOSITORY = "The repository's address and name are as the Index wants them"
EQUAL = "The three descriptions have equal values"
OLD = "The old description file is well-formed"
DESCRIPTION = "The description is short, plain and not cut by CMake"
ICONS = "The icon is a picture of this repository, 128 x 128"
SCREENSHOTS = "There are screenshots, of this repository"
LICENCE = "A permissive licence is in the root and named on the homepage"
FORBIDDEN = "There are no executables, archives, pickles or native sources"
PORTABLE = "File names work on every system"
LISTS = "CMake's lists of files are the tree"
TEMPLATE = "The CMake files follow Slicer's template"
SUMMARY = "README begins with the name and what it is for"
PUBLICATION = "README links the publication and says what to cite"
STEPS = "There is a tutorial with steps, pictures and sample data"
SCOPE = "Loading a file runs nothing but definitions"
TORCH = "torch comes through the PyTorch extension, pip is asked in one place"
CLASSES = "The module has its four classes, and its constructors raise nothing"
PACKAGE = "The package holds the module, the library and the resources"
RAW = "https://raw.githubusercontent.com/SlicerMedalS/SlicerMedalS/main"

BREAKS: list[tuple[str, str, Callable[[Copy], None]]] = [
    (JSON_FORM, "CRLF", lambda c: c.write("MedalS.json", (ROOT / "MedalS.json").read_bytes().replace(b"\n", b"\r\n"))),
    (JSON_FORM, "a trailing comma", lambda c: c.replace("MedalS.json", '"tier": 3', '"tier": 3,')),
    (JSON_KEYS, "a key of its own", lambda c: c.entry(homepage="https://example.org")),
    (JSON_KEYS, "no category", lambda c: c.entry(category=None)),
    (JSON_KEYS, "a tier in words", lambda c: c.entry(tier="three")),
    (JSON_KEYS, "another schema", lambda c: c.entry(**{"$schema": "https://example.org/schema.json#"})),
    ("The category is one of the Index's", "another category", lambda c: c.entry(category="Segmentations")),
    (NAMES, "another project", lambda c: c.replace(CMAKE, "project(MedalS)", "project(SlicerMedalS)")),
    (NAMES, "an earlier project() in a comment", lambda c: c.replace(CMAKE, "project(", "# project(Other)\nproject(")),
    (REPOSITORY, "without the prefix", lambda c: c.entry(scm_url="https://github.com/SlicerMedalS/MedalS")),
    (REPOSITORY, "ssh", lambda c: c.entry(scm_url="ssh://git@github.com/SlicerMedalS/SlicerMedalS")),
    (REPOSITORY, "a commit", lambda c: c.entry(scm_revision="0123456789abcdef0123456789abcdef01234567")),
    (EQUAL, "another icon", lambda c: c.replace("MedalS.s4ext", "Icons/MedalS.png", "Icons/Other.png")),
    (EQUAL, "another dependency", lambda c: c.entry(build_dependencies=["PyTorch", "NNUNet"])),
    (EQUAL, "another branch", lambda c: c.replace("MedalS.s4ext", "scmrevision main", "scmrevision 5.12")),
    (OLD, "an unknown keyword", lambda c: c.append("MedalS.s4ext", "licence Apache-2.0\n")),
    (OLD, "a keyword twice", lambda c: c.append("MedalS.s4ext", "enabled 0\n")),
    (DESCRIPTION, "a semicolon", lambda c: c.replace(CMAKE, "The code is under Apache-2.0,", "Code: Apache-2.0;")),
    (DESCRIPTION, "two lines", lambda c: c.replace(CMAKE, "The code is under", "\nThe code is under")),
    (ICONS, "a web page", lambda c: c.replace(CMAKE, f"{RAW}/Resources/Icons", "https://example.org")),
    (ICONS, "another size", lambda c: shutil.copyfile(c.folder / "Documentation/images/results.png", c.folder / ICON)),
    (ICONS, "two lines", lambda c: c.replace(CMAKE, 'EXTENSION_ICONURL "', 'EXTENSION_ICONURL\n  "')),
    (SCREENSHOTS, "a missing file", lambda c: c.remove("Documentation/images/results.png")),
    (SCREENSHOTS, "none", lambda c: c.replace(CMAKE, f'"{RAW}/Documentation/images/results.png"', '""')),
    ("The homepage is the repository's", "another", lambda c: c.replace(CMAKE, 'HOMEPAGE "https', 'HOMEPAGE "http')),
    ("Contributors are named", "others", lambda c: c.replace(CMAKE, "The Medal S for 3D Slicer developers", "We")),
    ("The extension depends on PyTorch's extension", "none", lambda c: c.replace(CMAKE, 'DEPENDS "PyTorch"', "X")),
    (LICENCE, "no file", lambda c: c.remove("LICENSE.txt")),
    (LICENCE, "not named", lambda c: c.replace(README, "Apache-2.0", "open")),
    ("No file is larger than 10 MiB", "a large one", lambda c: c.write("Resources/big.bin", bytes(11 * 1024**2))),
    (FORBIDDEN, "a checkpoint", lambda c: c.write("Resources/Models/network.pth", b"")),
    (FORBIDDEN, "a library", lambda c: c.write("MedalSLib/fast.so", b"")),
    (PORTABLE, "a colon", lambda c: c.write("Documentation/a:b.md", "")),
    (PORTABLE, "two cases", lambda c: c.write("readme.md", "")),
    (LISTS, "a new file", lambda c: c.write("MedalSLib/panel/extra.py", "")),
    (LISTS, "a file that is gone", lambda c: c.remove(PANEL)),
    (LISTS, "a resource twice", lambda c: c.replace(CMAKE, f"  {ICON}\n", f"  {ICON}\n  {ICON}\n")),
    ("The module's folder has one Python file", "a helper", lambda c: c.write("MedalS/helper.py", "")),
    (TEMPLATE, "no packaging", lambda c: c.replace(CMAKE, "include(${Slicer_EXTENSION_CPACK})", "")),
    (TEMPLATE, "no generic tests", lambda c: c.replace("MedalS/CMakeLists.txt", "WITH_GENERIC_TESTS", "")),
    (SUMMARY, "no heading", lambda c: c.replace(README, "# Medal S for 3D Slicer\n", "")),
    ("README shows what the extension does", "no picture", lambda c: c.replace(README, "![", "[")),
    ("README has a sentence for each module", "none", lambda c: c.replace(README, "## The module in 3D Slicer", "")),
    (PUBLICATION, "no link", lambda c: c.replace(README, "(https://arxiv.org/abs/2511.13001)", "")),
    (STEPS, "another sample", lambda c: c.replace(TUTORIAL, "*Medal S CT liver*", "*CTLiver*")),
    (STEPS, "no pictures", lambda c: c.replace(TUTORIAL, "![", "[")),
    ("Sample data are registered with their digests", "none", lambda c: c.replace(MODULE, "registerSamples", "skip")),
    (
        "Links of the documentation lead to files",
        "a dead one",
        lambda c: c.append(README, "\n[x](Documentation/x.md)\n"),
    ),
    (SCOPE, "a process", lambda c: c.append(PANEL, "\nimport subprocess\n_V = subprocess.run(['git'])\n")),
    (SCOPE, "a download", lambda c: c.append(PANEL, "\nX = [requests.get(u) for u in ('a',)]\n")),
    (SCOPE, "an installation", lambda c: c.append(MODULE, "\nslicer.util.pip_install('x')\n")),
    (SCOPE, "a loop that waits", lambda c: c.append(PANEL, "\nwhile False:\n    pass\n")),
    (SCOPE, "in a class body", lambda c: c.append(PANEL, "\nclass X:\n    home = open('x')\n")),
    ("The panel needs nothing but what Slicer ships", "pandas", lambda c: c.append(PANEL, "\nimport pandas\n")),
    (
        "The panel needs nothing but what Slicer ships",
        "torch, two rooms away",
        lambda c: c.append("MedalSLib/errors.py", "\nimport torch\n"),
    ),
    (TORCH, "in the requirements", lambda c: c.append("Resources/requirements/engine.txt", "torch>=2.6\n")),
    (TORCH, "by pip", lambda c: c.append(PANEL, "\ndef f(): slicer.util.pip_install('torch')\n")),
    (TORCH, "pip elsewhere", lambda c: c.append(MODULE, "\ndef f(): slicer.packaging.pip_ensure(['x'])\n")),
    (CLASSES, "no tests", lambda c: c.replace(MODULE, "class MedalSTest(", "class Other(")),
    (CLASSES, "an error", lambda c: c.replace(MODULE, "        super().setup()\n", "        raise OSError\n")),
    ("Translated texts are literals", "an f-string", lambda c: c.append(PANEL, "\ndef f(x): return _(f'{x}')\n")),
    (PACKAGE, "the library is not packaged", lambda c: c.replace(CMAKE, "SCRIPTS ${LIBRARY_SCRIPTS}", "")),
    (PACKAGE, "a path outside", lambda c: c.replace("MedalS/CMakeLists.txt", "  SCRIPTS\n", "  SCRIPTS\n ../x.py\n")),
    (
        "Packaged scripts can be read by the oldest Python of theirs",
        "words of Python 3.10 in the module",
        lambda c: c.append(MODULE, "\nmatch 1:\n    case 1:\n        pass\n"),
    ),
    (
        "Packaged scripts can be read by the oldest Python of theirs",
        "3.12",
        lambda c: c.append(PANEL, "\ntype X = int\n"),
    ),
    (
        "Resources that the code asks for are packaged",
        "not",
        lambda c: c.append(PANEL, "\nX = resource('UI', 'a.ui')\n"),
    ),
]


@pytest.mark.parametrize(("title", "what", "damage"), BREAKS, ids=[f"{one[0]}: {one[1]}" for one in BREAKS])
def test_a_broken_rule_is_found(copy: Copy, title: str, what: str, damage: Callable[[Copy], object]) -> None:
    damage(copy)
    assert set(copy.problems(CHECKS[title])) - set(CHECKS[title].find(HERE))


def test_every_check_is_broken_once() -> None:
    """But for the size of the repository, which would take a hundred megabytes."""
    assert set(CHECKS) - {one[0] for one in BREAKS} == {"The repository is below 100 MiB"}


def test_the_repositorys_limit_is_held(monkeypatch: pytest.MonkeyPatch, copy: Copy) -> None:
    from extension_checks import repository

    monkeypatch.setattr(repository, "REPOSITORY_LIMIT", 1024**2)
    assert copy.problems(CHECKS["The repository is below 100 MiB"])


class TestTheScript:
    def test_it_prints_a_line_for_each_check_and_names_those_of_the_network(
        self, capsys: pytest.CaptureFixture
    ) -> None:
        assert check_extension.main(["--static"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("PASS") for line in lines) == len(check_extension.CHECKS)
        assert sum(line.startswith("WEB ") for line in lines) == len(check_extension.ONLINE)
        assert not [line for line in lines if line.startswith("FAIL")]

    def test_a_failure_says_what_is_wrong_and_what_to_do(self, copy: Copy, capsys: pytest.CaptureFixture) -> None:
        copy.remove("LICENSE.txt")
        assert check_extension.main(["--static", str(copy.folder)]) == 1
        line = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("FAIL"))
        assert "there is no licence file in the root" in line
        assert line.endswith("-> Add LICENSE.txt; name it.")

    def test_a_folder_without_an_extension_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        assert check_extension.main([str(tmp_path)]) == 2
        assert "CMakeLists.txt" in capsys.readouterr().err


@pytest.fixture(scope="module")
def stand_in() -> None:
    reason = package.why_not_loaded()
    if reason:
        pytest.skip(reason)


class TestThePackage:
    @pytest.mark.usefixtures("stand_in")
    def test_it_loads_and_its_panel_opens_and_closes(self) -> None:
        assert package.loads(HERE) == []

    @pytest.mark.usefixtures("stand_in")
    @pytest.mark.parametrize(
        ("name", "text", "said"),
        [
            (MODULE, "\nimport MedalSLib.panel\n", "loading the module loads the library"),
            (PANEL, "\nimport torch\n", "Slicer does not ship it"),
            (
                "MedalSLib/panel/widgets/panel_view.py",
                "\nimport socket\nsocket.create_connection(('localhost', 9))\n",
                "while the module is loaded",
            ),
        ],
    )
    def test_a_package_that_does_more_than_it_may_does_not_load(
        self, copy: Copy, name: str, text: str, said: str
    ) -> None:
        copy.append(name, text)
        assert said in " ".join(package.loads(Extension(copy.folder)))

    @pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
    def test_cmake_lays_the_same_files_out(self, tmp_path: Path) -> None:
        """The lists as CMake itself reads them, with macros that take and refuse what Slicer's do."""
        cmake = ROOT / "Testing" / "support" / "slicer_host" / "cmake"
        built, laid = tmp_path / "built", package.lay_out(HERE, tmp_path / "laid")
        command = ["cmake", "-S", str(ROOT), "-B", str(built), f"-DSlicer_DIR={cmake}", "-DBUILD_TESTING=ON"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert files(built / package.MODULES) == files(laid)
        assert sorted(path.name for path in laid.iterdir()) == ["MedalS.py", "MedalSLib", "Resources"]
        assert f'description "{HERE.cmake["DESCRIPTION"]}"' in done.stdout


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
