#!/usr/bin/env python3
"""Make an environment for Medal S and run the demonstration, the page or the tests in it.

    python3 .ci/quickstart.py demo     segments a chest CT that ships with a dependency, from typed names
    python3 .ci/quickstart.py view     opens that CT in a browser: type names, look, paint, refine, save
    python3 .ci/quickstart.py test     runs the linter, the type checker and every test

Needs nothing but Python 3.10 or newer; safe to run again (an environment that is up to date is reused).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VIEW_VENV = ROOT / ".venv-view"  # of its own: the page wants another of Slicer's cores than the tests
# Installed first and alone: later requirements then find it and do not pull another build.
TORCH = "torch==2.13.0"
EXTRAS = {"demo": "engine", "view": "view", "test": "dev"}
DEMO_NAMES = "both lungs, aorta, liver, spleen"
# Run before the tests; `ruff check --fix` and `ruff format` mend most of what the first two find.
CHECKS = (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"])
MOST_WORKERS = 8  # each holds up to 2 GB
# What the tests of the Slicer side draw with; everything else comes from Python packages.
TEST_LIBRARIES = (
    "libegl1", "libgl1", "libgl1-mesa-dri", "libegl-mesa0", "libxkbcommon0", "libdbus-1-3", "libfontconfig1",
    "libxrender1", "libxext6", "libsm6", "fonts-dejavu-core",
)  # fmt: skip


def say(text: str) -> None:
    """Print a line of progress at once, also into a pipe."""
    print(f"[quickstart] {text}", flush=True)


def apt_command() -> list[str] | None:
    """How Debian packages can be installed from here: as root, or by sudo if it asks for no password; None if not."""
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid"):
        return None
    if os.geteuid() == 0:
        return ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    sudo = shutil.which("sudo")
    if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode != 0:
        return None
    return [sudo, "-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]


def apt_install(*packages: str) -> bool:
    """Install Debian packages without questions; False if that may not be or did not work."""
    apt = apt_command()
    if apt is None:
        return False
    update = subprocess.run([*apt, "update", "-qq"], check=False)
    command = [*apt, "install", "-y", "-qq", "--no-install-recommends", *packages]
    return update.returncode == 0 and subprocess.run(command, check=False).returncode == 0


def create_environment(folder: Path) -> None:
    """Create an environment; on a Debian without the venv package, install it or say how."""
    shutil.rmtree(folder, ignore_errors=True)
    say(f"creating {folder.name}")
    done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    shutil.rmtree(folder, ignore_errors=True)
    if apt_install("python3-venv"):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        return
    say(done.stdout + done.stderr)
    sys.exit("Python cannot make environments here. Run 'sudo apt-get install python3-venv', then this command again.")


def environment_python(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(extra: str) -> Path:
    """Create or update the environment for an extra of pyproject.toml and return its Python."""
    folder = VIEW_VENV if extra == "view" else VENV
    state = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + TORCH.encode()).hexdigest()
    stamp = folder / f"medals-{extra}.stamp"
    python = environment_python(folder)
    if stamp.exists() and stamp.read_text() == state and python.exists():
        return python
    if not python.exists():
        create_environment(folder)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    say(f"installing {TORCH} (the largest part; a few minutes on a slow line)")
    subprocess.run([*pip, "install", "-q", TORCH], check=True)
    say(f"installing Medal S with its '{extra}' packages")
    subprocess.run([*pip, "install", "-q", "-e", f"{ROOT}[{extra}]"], check=True)
    stamp.write_text(state)
    return python


def chest_ct(python: Path) -> str:
    """Path of the chest CT that ships with slicerio."""
    find = "import slicerio, pathlib; print(pathlib.Path(slicerio.__file__).parent / 'data' / 'CTChest4.nrrd')"
    return subprocess.run([str(python), "-c", find], capture_output=True, text=True, check=True).stdout.strip()


def view(python: Path, image: str) -> int:
    """Serve an image, or slicerio's chest CT, to a browser of this computer until Ctrl-C."""
    if sysconfig.get_platform().startswith("linux") and not has_drawing_libraries():
        say("installing the libraries that the views are drawn with")
        if not apt_install(*TEST_LIBRARIES):
            say("that may not be done here; install them yourself:")
            say("  sudo apt-get install " + " ".join(TEST_LIBRARIES))
    command = [str(python), "-m", "MedalSLib.cli", "view", image or chest_ct(python)]
    try:
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    except KeyboardInterrupt:
        return 0


def demo(python: Path, names: str) -> int:
    """Segment slicerio's chest CT and say where the result lies."""
    image = chest_ct(python)
    output = ROOT / "output"
    output.mkdir(exist_ok=True)
    command = [
        str(python), "-m", "MedalSLib.cli", "segment", image, "--text", names, "--modality", "CT",
        "-o", str(output / "CTChest4.seg.nrrd"), "--preview", str(output / "CTChest4.png"), "--overwrite",
    ]  # fmt: skip
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code == 0:
        say("open output/CTChest4.png to see it, and output/CTChest4.seg.nrrd in 3D Slicer")
    return code


def has_drawing_libraries() -> bool:
    """Whether the loader finds the library that off-screen drawing begins with."""
    ldconfig = shutil.which("ldconfig", path=os.environ.get("PATH", "") + os.pathsep + "/sbin")
    if ldconfig is None:
        return False
    return "libEGL.so.1" in subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout


def check(python: Path) -> int:
    """Run the linter, the formatter (which changes nothing) and the type checker; return the first exit code not 0."""
    codes = []
    for command in CHECKS:
        say(" ".join(command))
        codes.append(subprocess.run([str(python), "-m", *command], cwd=ROOT, check=False).returncode)
    return next((code for code in codes if code), 0)


def workers() -> int:
    """How many processes share the tests: one for each core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def test(python: Path, arguments: list[str]) -> int:
    """Run the tests, with the system libraries they draw with where those can be installed.

    Args:
        python: Python of the environment.
        arguments: For pytest.  Without any, the checks run too, before the tests: the last line is pytest's summary.

    Returns:
        The exit code: 0 only if the checks and the tests passed.
    """
    if sysconfig.get_platform().startswith("linux") and not has_drawing_libraries():
        say("installing the libraries that off-screen tests draw with")
        if not apt_install(*TEST_LIBRARIES):
            say("that may not be done here, so tests that draw are skipped; to run them too, install them yourself:")
            say("  sudo apt-get install " + " ".join(TEST_LIBRARIES))
    checked = 0 if arguments else check(python)
    if checked != 0:
        say("the checks above found something, so this ends as failed even if the tests below pass")
    # Each worker computes on one thread: more of them than cores would only wait for each other.
    environment = {"QT_QPA_PLATFORM": "offscreen", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", **os.environ}
    command = [str(python), "-m", "pytest", "-n", str(workers()), "--dist", "worksteal", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode or checked


def main() -> int:
    """Run the chosen task and return its exit code."""
    if sys.version_info < (3, 10):  # noqa: UP036  # pyproject.toml is read only after this
        sys.exit(f"Medal S needs Python 3.10 or newer; this is {sys.version.split()[0]}.")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = parser.add_subparsers(dest="task", required=True)
    demonstration = tasks.add_parser("demo", help="segment a chest CT from typed names")
    demonstration.add_argument("--text", default=DEMO_NAMES, help="what to segment (default: %(default)s)")
    viewing = tasks.add_parser("view", help="segment, look and correct in a browser")
    viewing.add_argument("image", nargs="?", default="", help="image file or DICOM folder (default: the chest CT)")
    testing = tasks.add_parser("test", help="run the checks and every test")
    testing.add_argument("arguments", nargs=argparse.REMAINDER, help="run pytest alone, with these")
    chosen = parser.parse_args()
    python = prepare(EXTRAS[chosen.task])
    if chosen.task == "view":
        return view(python, chosen.image)
    return demo(python, chosen.text) if chosen.task == "demo" else test(python, chosen.arguments)


if __name__ == "__main__":
    sys.exit(main())
