"""What the catalog entry, the top-level CMakeLists.txt and the old description file say, and that they agree."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from extension_checks.extension import NAME, Check, Extension

SCHEMA = re.compile(
    r"https://raw\.githubusercontent\.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1\.0\.[0-2]\.json#?"
)
# Properties and types of Slicer's schema v1.0.2; v1.0.1 is the same without the type of the repository "local".
TYPES: dict[str, type | tuple[type, ...]] = {
    "$schema": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "category": str,
    "dicom_support_rule": str,
    "enabled": bool,
    "scm_revision": str,
    "scm_type": str,
    "scm_url": str,
    "tier": int,
}
REQUIRED = ("$schema", "category", "scm_url", "scm_revision", "build_dependencies", "tier")
CATEGORY = "Segmentation"
REPOSITORY = f"Slicer{NAME}"
PICTURES = (".png", ".jpg", ".jpeg", ".gif")
KEYWORDS = {
    "scm", "scmurl", "scmrevision", "depends", "recommends", "build_subdirectory", "homepage", "contributors",
    "category", "iconurl", "description", "screenshoturls", "enabled", "status", "tier", "dicom_support_rule",
    "keywords",
}  # fmt: skip
SHARED = (
    "HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "CATEGORY", "DEPENDS",
    "BUILD_SUBDIRECTORY", "STATUS",
)  # fmt: skip


def catalog_form(extension: Extension) -> list[str]:
    """The catalog entry as the Index's file checks want it."""
    raw = extension.text(f"{NAME}.json")
    found = [] if extension.catalog else [f"{NAME}.json is missing or is not a JSON object"]
    path = extension.root / f"{NAME}.json"
    if path.is_file() and b"\r" in path.read_bytes():
        found.append("it has other line ends than LF")
    if "\t" in raw or re.search(r" +$", raw, re.MULTILINE):
        found.append("it has tabs or blanks at the end of lines")
    return found if raw.endswith("}\n") else [*found, "it does not end with one line end"]


def catalog_keys(extension: Extension) -> list[str]:
    """Keys and types of the catalog entry."""
    entry = extension.catalog
    found = [f"'{key}' is missing" for key in REQUIRED if key not in entry]
    found += [f"'{key}' is no key of the schema" for key in entry if key not in TYPES]
    for key, kind in TYPES.items():
        value = entry.get(key)
        if key in entry and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            found.append(f"'{key}' is {value!r}")
    if not SCHEMA.fullmatch(str(entry.get("$schema", ""))):
        found.append(f"$schema is {entry.get('$schema')!r}, no published version")
    if entry.get("tier") not in range(1, 6):
        found.append("tier is not 1 to 5")
    if not all(isinstance(item, str) and item for item in _items(entry.get("build_dependencies"))):
        found.append("build_dependencies is not a list of names")
    return found


def category(extension: Extension) -> list[str]:
    """The category is one of the Index's, and the one of the module."""
    value = extension.catalog.get("category")
    return [] if value == CATEGORY else [f"the category is {value!r}; the Index has '{CATEGORY}' for this"]


def names(extension: Extension) -> list[str]:
    """Name of the extension, the project and the files."""
    cmake = extension.text("CMakeLists.txt")
    # The first project() that the Index's expression finds, comments included.
    match = re.search(r"project\s*\(\s*([^\s\)\n\r]+)", cmake, re.IGNORECASE)
    project = match[1].strip("\"'") if match else ""
    found = [] if project == NAME else [f"project({project}) in CMakeLists.txt is not {NAME}"]
    if project.lower().startswith("slicer"):
        found.append("the extension's name begins with 'Slicer'")
    found += [f"{file} is missing" for file in (f"{NAME}.json", f"{NAME}.s4ext") if not extension.has(file)]
    return found if extension.has(f"{NAME}/{NAME}.py") else [*found, f"{NAME}/{NAME}.py is missing"]


def repository(extension: Extension) -> list[str]:
    """Address of the repository."""
    url = str(extension.catalog.get("scm_url", ""))
    scheme, mark, rest = url.partition("://")
    found = [] if mark and scheme in ("https", "git") else [f"scm_url {url!r} is neither https:// nor git://"]
    last = rest.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")
    if last != REPOSITORY:
        found.append(f"the repository is called {last!r}, not {REPOSITORY!r}")
    if re.search(r"[?&#\s]", url):
        found.append("scm_url has parameters or blanks")
    revision = str(extension.catalog.get("scm_revision", ""))
    return [*found, "scm_revision is a commit, not a branch"] if re.fullmatch("[0-9a-f]{7,40}", revision) else found


def equal_values(extension: Extension) -> list[str]:
    """The three descriptions say the same."""
    cmake, old, entry = extension.cmake, extension.description, extension.catalog
    found = []
    for key in SHARED:
        if key not in cmake:
            found.append(f"EXTENSION_{key} is not set on one line of CMakeLists.txt")
        elif old.get(key.lower()) != cmake[key]:
            found.append(f"{key.lower()} of {NAME}.s4ext differs from EXTENSION_{key}")
    catalog = {
        "build_dependencies": " ".join(map(str, _items(entry.get("build_dependencies")))),
        "build_subdirectory": entry.get("build_subdirectory"),
        "category": entry.get("category"),
        "scm_url": entry.get("scm_url"),
    }
    keys = ("DEPENDS", "BUILD_SUBDIRECTORY", "CATEGORY", "HOMEPAGE")
    for (name, value), key in zip(catalog.items(), keys, strict=True):
        if value != cmake.get(key):
            found.append(f"{name} of {NAME}.json is {value!r}, EXTENSION_{key} is {cmake.get(key)!r}")
    for name, key in (("scm_url", "scmurl"), ("scm_revision", "scmrevision"), ("tier", "tier")):
        if str(entry.get(name)) != old.get(key):
            found.append(f"{name} of {NAME}.json is {entry.get(name)!r}, {key} of {NAME}.s4ext is {old.get(key)!r}")
    return found


def old_description(extension: Extension) -> list[str]:
    """The old description file has its keywords, once each."""
    lines = extension.text(f"{NAME}.s4ext").splitlines()
    keywords = [line.split(" ", 1)[0] for line in lines if line.strip() and not line.startswith("#")]
    found = [f"'{word}' is no keyword" for word in keywords if word not in KEYWORDS]
    found += [f"'{word}' is there twice" for word in sorted(set(keywords)) if keywords.count(word) > 1]
    required = ("scm", "scmurl", "scmrevision", "homepage", "category", "description")
    return [*found, *(f"'{word}' is missing" for word in required if not extension.description.get(word))]


def description(extension: Extension) -> list[str]:
    """The description survives CMake and can be understood."""
    text = extension.cmake.get("DESCRIPTION", "")
    found = [f"it has {len(text)} characters, not 40 to 400"] if not 40 <= len(text) <= 400 else []
    sentences = [one for one in re.split(r"[.!?](?:\s|$)", text) if one.strip()]
    if not 1 <= len(sentences) <= 3:
        found.append(f"it has {len(sentences)} sentences")
    if re.search(r"[;\\$\"]", text):
        found.append("it has ; \\ $ or a quotation mark: Slicer's macros pass it on unquoted and cut it there")
    for word in ("segment", "licen"):
        if word not in text.lower():
            found.append(f"it does not mention '{word}...' (what it is for; the licence of code and weights)")
    return found


def icon(extension: Extension) -> list[str]:
    """The icon of the catalog."""
    urls = extension.cmake.get("ICONURL", "").split()
    found = [] if len(urls) == 1 else ["EXTENSION_ICONURL is not one address on one line"]
    for url in urls:
        found += _picture(extension, url, lambda size: [] if size == (128, 128) else [f"it is {size}, not 128 x 128"])
    return found


def screenshots(extension: Extension) -> list[str]:
    """The screenshots of the catalog."""
    urls = extension.cmake.get("SCREENSHOTURLS", "").split()
    found = [] if urls else ["EXTENSION_SCREENSHOTURLS is not set on one line"]
    for url in urls:
        found += _picture(extension, url, lambda size: [] if min(size) >= 300 else [f"it is only {size} pixels"])
    return found


def homepage(extension: Extension) -> list[str]:
    """The homepage is the repository's page, whose README says what the catalog asks for."""
    url, page = str(extension.catalog.get("scm_url", "")), extension.cmake.get("HOMEPAGE", "")
    found = [] if page.startswith("https://") and page == url else [f"EXTENSION_HOMEPAGE {page!r} is not {url!r}"]
    return found if f'"{page}"' in extension.text(f"{NAME}/{NAME}.py") else [*found, "the module links another page"]


def contributors(extension: Extension) -> list[str]:
    """Contributors are named for the catalog and the module."""
    named = extension.cmake.get("CONTRIBUTORS", "")
    found = [] if len(named) > 5 else ["EXTENSION_CONTRIBUTORS is empty"]
    return found if named and named in extension.text(f"{NAME}/{NAME}.py") else [*found, "the module names others"]


def dependencies(extension: Extension) -> list[str]:
    """PyTorch comes through its extension."""
    depends = extension.cmake.get("DEPENDS", "").split()
    return [] if depends == ["PyTorch"] else [f"EXTENSION_DEPENDS is {depends}, not PyTorch alone"]


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG, or None if it is none."""
    return struct.unpack(">II", data[16:24]) if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 24 else None


def _picture(extension: Extension, url: str, judge: Callable[[tuple[int, int]], list[str]]) -> list[str]:
    page, revision = extension.cmake.get("HOMEPAGE", ""), extension.catalog.get("scm_revision")
    base = f"https://raw.githubusercontent.com/{page.partition('github.com/')[2]}/{revision}/"
    if not url.startswith(base) or not url.lower().endswith(PICTURES):
        return [f"{url} is not a picture below {base}"]
    path = url.removeprefix(base)
    if path not in extension.files:
        return [f"{path} is not in the repository"]
    size = picture_size((extension.root / path).read_bytes())
    return [f"{path} is not a readable PNG"] if size is None else [f"{path}: {text}" for text in judge(size)]


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


_EQUAL = f"Say the same in {NAME}.json, {NAME}.s4ext and CMakeLists.txt."
CHECKS = (
    Check("The catalog entry is JSON with LF line ends", f"Mend {NAME}.json.", catalog_form),
    Check("The catalog entry has the keys of its schema and no others", f"Mend {NAME}.json.", catalog_keys),
    Check("The category is one of the Index's", f"Use '{CATEGORY}'.", category),
    Check("The extension's name is the project's and the files'", f"Call all of them {NAME}.", names),
    Check("The repository's address and name are as the Index wants them", f"Mend scm_url in {NAME}.json.", repository),
    Check("The three descriptions have equal values", _EQUAL, equal_values),
    Check("The old description file is well-formed", f"Mend {NAME}.s4ext.", old_description),
    Check("The description is short, plain and not cut by CMake", "Rewrite EXTENSION_DESCRIPTION.", description),
    Check("The icon is a picture of this repository, 128 x 128", "Mend EXTENSION_ICONURL or the file.", icon),
    Check("There are screenshots, of this repository", "Mend EXTENSION_SCREENSHOTURLS or the files.", screenshots),
    Check("The homepage is the repository's", "Mend EXTENSION_HOMEPAGE.", homepage),
    Check("Contributors are named", f"Name the same in CMakeLists.txt and {NAME}.py.", contributors),
    Check("The extension depends on PyTorch's extension", "Mend EXTENSION_DEPENDS.", dependencies),
)
