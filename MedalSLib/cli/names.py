"""`medals names` lists and completes names, `medals resolve` says which structures a text names."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from MedalSLib.cli.console import Commands, note, print_json

_OWN_NAMES = "name or folder of a model; names that it brings itself are known too (default: %(default)s)"


def add_commands(commands: Commands) -> None:
    """Add the two commands to the parser."""
    names = commands.add_parser(
        "names", help="list or complete the names of structures", description="List the structures that can be asked "
        "for, or complete the beginning of a name; typos and synonyms are found too."
    )  # fmt: skip
    names.add_argument("prefix", nargs="?", default="", help="beginning of a name, a synonym or a preset")
    names.add_argument("--modality", help="CT, MRI, US, PET or Microscopy (default: all)")
    names.add_argument("--limit", type=int, default=0, help="at most so many (default: all, or 10 with a prefix)")
    names.add_argument("--model", default="starter", help=_OWN_NAMES)
    names.add_argument("--presets", action="store_true", help="list the presets and what they contain")
    names.add_argument("--json", action="store_true", help="print JSON")
    names.set_defaults(run=run_names)

    resolve = commands.add_parser(
        "resolve", help="say what typed text is understood as", description="Say which structures a text names, "
        "phrase by phrase, without segmenting anything."
    )  # fmt: skip
    resolve.add_argument("text", help='what a user would type, such as "rt kidney, liver mets"')
    resolve.add_argument("--modality", help="CT, MRI, US, PET or Microscopy (default: from the text)")
    resolve.add_argument("--model", default="starter", help=_OWN_NAMES)
    resolve.add_argument("--json", action="store_true", help="print JSON")
    resolve.set_defaults(run=run_resolve)


def run_names(arguments: argparse.Namespace) -> int:
    """List or complete names."""
    from MedalSLib.vocabulary import describe, normalize_modality, presets, structures, suggest

    modality = normalize_modality(arguments.modality) if arguments.modality else None
    if arguments.presets:
        found = presets(modality)
        lists = {name: list(members) for name, members in found.items()}
        return _tell(arguments.json, lists, [f"{name}: {', '.join(members)}" for name, members in found.items()])
    if arguments.prefix:
        lines = []
        suggestions = suggest(arguments.prefix, modality, limit=arguments.limit or 10, known=_known(arguments.model))
        for item in suggestions:
            meaning = "" if item.classes == (item.text,) else f"  = {', '.join(item.classes)}"
            lines.append(f"{item.text}  [{item.modality}]{meaning}")
        return _tell(arguments.json, [asdict(item) for item in suggestions], lines)
    published = {item.key for item in structures()}
    own = [describe(key) for key in _known(arguments.model) if key not in published]
    listed = (*structures(modality), *(item for item in own if modality in (None, item.modality)))
    listed = listed[: arguments.limit] if arguments.limit else listed
    facts = [
        {"name": s.name, "modality": s.modality, "kinds": list(s.kinds), "synonyms": list(s.synonyms)} for s in listed
    ]
    return _tell(arguments.json, facts, [f"{known.modality:<11}{known.name}" for known in listed])


def run_resolve(arguments: argparse.Namespace) -> int:
    """Say what a text names; exit code 4 if a phrase names nothing."""
    from MedalSLib.vocabulary import normalize_modality, resolve

    modality = normalize_modality(arguments.modality) if arguments.modality else None
    resolutions = resolve(arguments.text, modality, _known(arguments.model))
    if not resolutions and not arguments.json:
        note(f"medals: There is no word in '{arguments.text}'.")
    lines = []
    for item in resolutions:
        hint = f"  (did you mean {', '.join(item.suggestions[:3])}?)" if item.suggestions else ""
        unknown = f"not understood{hint}{item.hint and f'  {item.hint}'}"
        said = f"{', '.join(item.classes)}  [{item.modality}]" if item.classes else unknown
        lines.append(f"{item.phrase}: {said}")
    _tell(arguments.json, [asdict(item) for item in resolutions], lines)
    return 0 if resolutions and all(item.classes for item in resolutions) else 4


def _known(model: str) -> tuple[str, ...]:
    """Return the keys of what a model knows.

    Raises:
        ModelError: No such model, or it is not installed.
    """
    from MedalSLib.network.install_sources import describe_folder
    from MedalSLib.network.registry import find_folder

    return describe_folder(find_folder(model)).classes


def _tell(as_json: bool, value: Any, lines: Iterable[str]) -> int:
    if as_json:
        print_json(value)
    else:
        for line in lines:
            print(line)
    return 0
