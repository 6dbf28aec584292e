"""`medals names` lists and completes names, `medals resolve` says which structures a text names."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from MedalSLib.cli.console import Commands, note, print_json


def add_commands(commands: Commands) -> None:
    """Add the two commands to the parser."""
    names = commands.add_parser(
        "names", help="list or complete the names of structures", description="List the structures that can be asked "
        "for, or complete the beginning of a name; typos and synonyms are found too."
    )  # fmt: skip
    names.add_argument("prefix", nargs="?", default="", help="beginning of a name, a synonym or a preset")
    names.add_argument("--modality", help="CT, MRI, US, PET or Microscopy (default: all)")
    names.add_argument("--limit", type=int, default=0, help="at most so many (default: all, or 10 with a prefix)")
    names.add_argument("--presets", action="store_true", help="list the presets and what they contain")
    names.add_argument("--json", action="store_true", help="print JSON")
    names.set_defaults(run=run_names)

    resolve = commands.add_parser(
        "resolve", help="say what typed text is understood as", description="Say which structures a text names, "
        "phrase by phrase, without segmenting anything."
    )  # fmt: skip
    resolve.add_argument("text", help='what a user would type, such as "rt kidney, liver mets"')
    resolve.add_argument("--modality", help="CT, MRI, US, PET or Microscopy (default: from the text)")
    resolve.add_argument("--json", action="store_true", help="print JSON")
    resolve.set_defaults(run=run_resolve)


def run_names(arguments: argparse.Namespace) -> int:
    """List or complete names."""
    from MedalSLib.vocabulary import normalize_modality, presets, structures, suggest

    modality = normalize_modality(arguments.modality) if arguments.modality else None
    if arguments.presets:
        found = presets(modality)
        if arguments.json:
            print_json({name: list(members) for name, members in found.items()})
        else:
            for name, members in found.items():
                print(f"{name}: {', '.join(members)}")
        return 0
    if arguments.prefix:
        suggestions = suggest(arguments.prefix, modality, limit=arguments.limit or 10)
        if arguments.json:
            print_json([asdict(item) for item in suggestions])
        else:
            for item in suggestions:
                meaning = "" if item.classes == (item.text,) else f"  = {', '.join(item.classes)}"
                print(f"{item.text}  [{item.modality}]{meaning}")
        return 0
    listed = structures(modality)
    listed = listed[: arguments.limit] if arguments.limit else listed
    if arguments.json:
        print_json(
            [
                {"name": s.name, "modality": s.modality, "kinds": list(s.kinds), "synonyms": list(s.synonyms)}
                for s in listed
            ]
        )
    else:
        for known in listed:
            print(f"{known.modality:<11}{known.name}")
    return 0


def run_resolve(arguments: argparse.Namespace) -> int:
    """Say what a text names; exit code 4 if a phrase names nothing."""
    from MedalSLib.vocabulary import normalize_modality, resolve

    modality = normalize_modality(arguments.modality) if arguments.modality else None
    resolutions = resolve(arguments.text, modality)
    if arguments.json:
        print_json([asdict(item) for item in resolutions])
    else:
        if not resolutions:
            note(f"medals: There is no word in '{arguments.text}'.")
        for item in resolutions:
            if item.classes:
                print(f"{item.phrase}: {', '.join(item.classes)}  [{item.modality}]")
            else:
                hint = f"  (did you mean {', '.join(item.suggestions[:3])}?)" if item.suggestions else ""
                print(f"{item.phrase}: not understood{hint}{item.hint and f'  {item.hint}'}")
    return 0 if resolutions and all(item.classes for item in resolutions) else 4
