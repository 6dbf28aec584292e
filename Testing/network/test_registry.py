"""The registry: installing from the hub, folders and zips leaves a whole model or none; nothing comes in by itself."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_server import Hub, hub_server
from tiny_models import write_tiny_model

from MedalSLib.errors import CancelledError, ModelError, OutputError
from MedalSLib.network import download, install_sources, published, registry
from MedalSLib.network.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]
STAGE1 = "nano_UNet_CVPR2025_crop_size_224_224_128_spacing_1.5_1.5_3.0_step_358600.pth"
STAGE2 = "nano_UNet_CVPR2025_crop_size_192_192_192_spacing_1.0_1.0_1.0_step_341300.pth"
FILES = {
    STAGE1: b"one" * 1000_000,
    STAGE2: b"two" * 1000,
    "text_encoder.pth": b"text" * 1000,
    "BioLORD-2023-C/config.json": b'{"model_type": "mpnet"}',
    "BioLORD-2023-C/tokenizer.json": b"{}" * 200,
    "BioLORD-2023-C/pytorch_model.bin": b"overwritten by text_encoder.pth anyway" * 10,
    "README.md": b"# Medal S",
}
WANTED = sorted(path for path in FILES if path not in ("README.md", "BioLORD-2023-C/pytorch_model.bin"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDALS_HOME", str(tmp_path / "home"))
    for name in ("MEDALS_OFFLINE", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.01))
    return tmp_path / "home"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server({published.REPOSITORY: dict(FILES)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "somewhere" / "tiny")
    return tmp_path / "somewhere" / "tiny"


def zipped(folder: Path, inside: str = "") -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.iterdir()):
            opened.write(path, inside + path.name)
    return archive


def installed() -> list[str]:
    return [entry.name for entry in registry.list_models() if entry.state == "installed"]


def test_nothing_is_fetched_before_the_licence_is_accepted(hub: Hub, home: Path) -> None:
    with pytest.raises(ModelError) as caught:
        registry.install("medals-v1")
    message = str(caught.value)
    assert "https://huggingface.co/spc819/Medal-S-V1.0" in message
    assert "MiB" in message
    assert "accept" in caught.value.remedy
    assert not hub.requests
    assert not home.exists()


def test_the_published_model_is_fetched_checked_and_listed(hub: Hub, home: Path) -> None:
    steps: list[tuple[int, int]] = []
    entry = registry.install("medals-v1", accept_licence=True, on_progress=lambda *step: steps.append(step))
    assert entry.state == "installed"
    folder = Path(entry.folder)
    assert folder == home / "models" / "medals-v1"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == sorted([*WANTED, "manifest.json"])
    assert all((folder / path).read_bytes() == FILES[path] for path in WANTED)
    manifest = read_manifest(folder)
    assert all(manifest.checksums().values())
    assert manifest.source.endswith("at abc123")
    assert manifest.stage("1").weights == STAGE1
    total = sum(len(FILES[path]) for path in WANTED)
    assert steps[-1] == (total, total)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    registry.verify("medals-v1")
    asked = len(hub.requests)
    registry.install("medals-v1", accept_licence=True)
    assert len(hub.requests) == asked, "a whole model is not fetched again"


def test_a_broken_connection_goes_on_where_it_stopped(hub: Hub) -> None:
    hub.break_after[STAGE1] = 1_500_000
    registry.install("medals-v1", accept_licence=True)
    ranges = [wanted for path, wanted in hub.requests if path == STAGE1]
    assert len(ranges) == 2
    assert ranges[0] == ""
    assert 0 < int(ranges[1].removeprefix("bytes=").removesuffix("-")) <= 1_500_000


def test_a_cancelled_download_leaves_no_model_and_goes_on_the_next_time(hub: Hub, home: Path) -> None:
    cancel = threading.Event()

    def stop_soon(done: int, total: int) -> None:
        if done > 1_000_000:
            cancel.set()

    with pytest.raises(CancelledError):
        registry.install("medals-v1", accept_licence=True, on_progress=stop_soon, cancel=cancel)
    assert installed() == []
    assert not (home / "models").exists()
    before = len(hub.requests)
    registry.install("medals-v1", accept_licence=True)
    again = dict(hub.requests[before:])
    assert again[STAGE1].startswith("bytes=")
    registry.verify("medals-v1")


def test_a_server_without_ranges_sends_all_of_it_again(hub: Hub) -> None:
    hub.ranges = False
    hub.break_after[STAGE1] = 1_500_000
    steps: list[tuple[int, int]] = []
    registry.install("medals-v1", accept_licence=True, on_progress=lambda *step: steps.append(step))
    assert steps[-1][0] == steps[-1][1], "bytes that came twice count once"
    registry.verify("medals-v1")


@pytest.mark.parametrize("path", [STAGE2, "BioLORD-2023-C/config.json"], ids=["large file", "small file"])
def test_content_other_than_announced_is_refused(hub: Hub, path: str) -> None:
    hub.tampered.add(path)
    with pytest.raises(ModelError, match="wrong checksum"):
        registry.install("medals-v1", accept_licence=True)
    assert installed() == []
    hub.tampered.clear()
    registry.install("medals-v1", accept_licence=True)
    registry.verify("medals-v1")


def test_a_connection_that_stays_broken_is_explained(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class AlwaysBroken(dict[str, int]):
        def pop(self, key: str, default: int) -> int:  # type: ignore[override]  # stands in for Hub.break_after
            return 1000 if key == STAGE1 else default

    hub.break_after = AlwaysBroken()
    with pytest.raises(ModelError, match="broke off") as caught:
        registry.install("medals-v1", accept_licence=True)
    assert "goes on where it stopped" in caught.value.remedy
    assert installed() == []


def test_the_tokenizer_comes_from_its_own_repository_where_the_first_lacks_it(hub: Hub) -> None:
    files = hub.repositories[published.REPOSITORY]
    hub.repositories[published.LANGUAGE_MODEL_REPOSITORY] = {
        name: files.pop(f"BioLORD-2023-C/{name}") for name in ("config.json", "tokenizer.json")
    }
    folder = Path(registry.install("medals-v1", accept_licence=True).folder)
    assert (folder / "BioLORD-2023-C" / "tokenizer.json").read_bytes() == FILES["BioLORD-2023-C/tokenizer.json"]


def test_a_repository_without_the_files_is_explained(hub: Hub) -> None:
    del hub.repositories[published.REPOSITORY][STAGE2]
    with pytest.raises(ModelError, match="as expected"):
        registry.install("medals-v1", accept_licence=True)


@pytest.mark.parametrize("name", ["MEDALS_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_is_respected(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ModelError, match="switched off") as caught:
        registry.install("medals-v1", accept_licence=True)
    assert "another computer" in caught.value.remedy
    assert not hub.requests


def test_an_unreachable_hub_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be listed"):
        registry.install("medals-v1", accept_licence=True)


@pytest.mark.parametrize("form", ["folder", "zip", "zip with a folder in it"])
def test_local_models_are_installed_verified_and_removed(tiny: Path, home: Path, form: str) -> None:
    source = tiny if form == "folder" else zipped(tiny, "tiny/" if "in it" in form else "")
    assert "CC0-1.0" in registry.licence_notice(str(source))
    steps: list[tuple[int, int]] = []
    entry = registry.install(source, accept_licence=True, on_progress=lambda *step: steps.append(step))
    assert (entry.name, entry.state, entry.folder) == ("tiny", "installed", str(home / "models" / "tiny"))
    assert steps[-1][0] == pytest.approx(steps[-1][1], rel=0.02)
    assert installed() == ["tiny"]
    registry.verify("tiny")
    assert registry.find_folder("tiny") == home / "models" / "tiny"
    registry.remove("tiny")
    assert installed() == []
    assert [path.name for path in home.iterdir()] == ["models"], "nothing is left over"
    assert tiny.is_dir()


def test_published_files_in_a_folder_get_their_checksums_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "downloaded"
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    entry = registry.install("medals-v1", source=folder, accept_licence=True)
    registry.verify("medals-v1")
    (Path(entry.folder) / STAGE1).write_bytes(b"changed")
    with pytest.raises(ModelError, match="wrong checksum"):
        registry.verify("medals-v1")


def test_installing_again_replaces_the_old_one(tiny: Path) -> None:
    entry = registry.install(tiny, accept_licence=True)
    (Path(entry.folder) / "stage1.safetensors").write_bytes(b"damaged")
    registry.install(tiny, accept_licence=True)
    registry.verify("tiny")


def test_a_failed_replacement_keeps_the_old_one(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.install(tiny, accept_licence=True)
    plain = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "model":
            raise PermissionError("held by another program")
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="held by another program"):
        registry.install(tiny, accept_licence=True)
    registry.verify("tiny")


def test_damaged_and_incomplete_sources_leave_nothing(tiny: Path, home: Path) -> None:
    (tiny / "stage2.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="wrong checksum"):
        registry.install(tiny, accept_licence=True)
    (tiny / "stage2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks files of the model: stage2\.safetensors"):
        registry.install(tiny, accept_licence=True)
    assert list(home.iterdir()) == []


def test_cancelling_a_local_installation_leaves_nothing(tiny: Path, home: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    for source in (tiny, zipped(tiny)):
        with pytest.raises(CancelledError):
            registry.install(source, accept_licence=True, cancel=cancel)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("evil", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "C:\\outside.txt", "..\\x"])
def test_archives_that_reach_outside_are_refused(tiny: Path, tmp_path: Path, evil: str) -> None:
    archive = zipped(tiny)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(evil, "gotcha")
    with pytest.raises(ModelError, match="not safe"):
        registry.install(archive, accept_licence=True)
    assert not list(tmp_path.rglob("outside.txt"))
    assert installed() == []


def test_links_in_archives_are_refused(tiny: Path) -> None:
    archive = zipped(tiny)
    link = zipfile.ZipInfo("stage3.safetensors")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="not safe"):
        registry.install(archive, accept_licence=True)


@pytest.mark.parametrize("kind", ["not a zip", "cut short", "without a model"])
def test_archives_that_are_no_models_are_explained(tiny: Path, kind: str) -> None:
    archive = zipped(tiny)
    if kind == "without a model":
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("readme.txt", "nothing here")
    else:
        archive.write_bytes(b"text" if kind == "not a zip" else archive.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"tiny\.zip"):
        registry.install(archive, accept_licence=True)
    assert installed() == []


def test_no_space_is_said_before_anything_is_written(
    hub: Hub, tiny: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_sources.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    for name in ("medals-v1", str(tiny)):
        with pytest.raises(OutputError, match="no space left") as caught:
            registry.install(name, accept_licence=True)
        assert "MEDALS_HOME" in caught.value.remedy
    assert not hub.requests
    assert installed() == []


def test_a_disk_that_fills_up_is_explained(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    plain = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", *rest, **more: full() if mode == "wb" else plain(self, mode, *rest, **more)
    )
    with pytest.raises(OutputError, match="no space left"):
        registry.install(tiny, accept_licence=True)


def test_a_name_that_the_source_does_not_bear_is_refused(tiny: Path) -> None:
    with pytest.raises(ModelError, match='holds the model "tiny", not "medals-v1"'):
        registry.install("medals-v1", source=tiny, accept_licence=True)
    with pytest.raises(ModelError, match="neither a folder nor a zip"):
        registry.install("tiny", source=tiny / "nowhere", accept_licence=True)


def test_unknown_models_are_explained_with_the_known_ones() -> None:
    for action in (registry.show, registry.verify, registry.remove, registry.licence_notice):
        with pytest.raises(ModelError, match="nonsense") as caught:
            action("nonsense")
        assert "medals-v1" in caught.value.remedy
    with pytest.raises(ModelError, match="not installed"):
        registry.remove("medals-v1")


def test_a_damaged_model_is_listed_as_such_and_can_be_removed(tiny: Path) -> None:
    entry = registry.install(tiny, accept_licence=True)
    (Path(entry.folder) / "manifest.json").write_text("{")
    assert registry.show("tiny").state == "damaged"
    registry.remove("tiny")
    with pytest.raises(ModelError):
        registry.show("tiny")


def test_the_bundled_model_is_listed_and_cannot_be_removed_or_replaced(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "bundled", name="starter")
    monkeypatch.setattr(registry, "_bundled_folder", lambda: tmp_path / "bundled")
    assert registry.show("starter").state == "bundled"
    assert registry.install("starter", accept_licence=True).state == "bundled"
    registry.verify("starter")
    with pytest.raises(ModelError, match="cannot be removed"):
        registry.remove("starter")
    shutil.copytree(tmp_path / "bundled", tmp_path / "other")
    with pytest.raises(ModelError, match="bundled"):
        registry.install(tmp_path / "other", accept_licence=True)


def test_listing_models_needs_no_torch() -> None:
    program = (
        "import sys\n"
        "from MedalSLib.network import registry\n"
        "names = [entry.name for entry in registry.list_models()]\n"
        "assert 'medals-v1' in names, names\n"
        "assert not {'torch', 'transformers', 'safetensors'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
