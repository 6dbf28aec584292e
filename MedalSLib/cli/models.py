"""`medals models`: list, show, install, verify, export and remove models."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from MedalSLib.cli.console import Commands, ProgressBar, cancel_on_interrupt, note, print_json
from MedalSLib.errors import InputError
from MedalSLib.run import Progress


def add_commands(commands: Commands) -> None:
    """Add `medals models ...` to the parser."""
    parser = commands.add_parser("models", help="list, show, install, verify, export and remove models")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, words, run in (
        ("list", "list the models: bundled, installed, and available", run_list),
        ("show", "show a model's card: training data, scores, licence, classes", run_show),
        ("install", "download a model, or take it from a folder or zip", run_install),
        ("verify", "check a model's files against their checksums", run_verify),
        ("export", "write a model for other programs: ONNX graphs, or a MONAI bundle", run_export),
        ("remove", "delete an installed model", run_remove),
    ):
        action = actions.add_parser(name, help=words)
        if name != "list":
            action.add_argument("name", help="name of the model, as 'medals models list' shows it")
        if name == "install":
            action.add_argument("--from", dest="source", help="local folder or zip instead of a download")
            action.add_argument("--accept-licence", action="store_true", help="do not ask; I have read the licence")
        if name == "export":
            _add_export(action)
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(run=run)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to; new or empty")
    parser.add_argument("--format", choices=["onnx", "monai"], default="onnx", help="onnx: all networks, with the "
                        "queries of all classes (default); monai: one network for fixed structures")  # fmt: skip
    group = parser.add_argument_group("MONAI bundle")
    group.add_argument("--modality", default="", help="of the images (default: of which the model knows most)")
    group.add_argument("--text", default="", help='structures, such as "liver, spleen" (default: all of the modality)')
    group.add_argument("--stage", choices=["1", "2"], default="", help="network (default: the model's first)")


def run_list(arguments: argparse.Namespace) -> int:
    """List the models."""
    from MedalSLib.network import registry

    models = registry.list_models()
    if arguments.json:
        print_json([asdict(model) for model in models])
        return 0
    for model in models:
        size = f"{model.size_bytes / 2**20:8.0f} MiB" if model.size_bytes else "            "
        print(f"{model.name:<14}{model.state:<12}{size}  {model.licence:<16}{model.title}")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Show one model."""
    from MedalSLib.network import registry

    model = registry.show(arguments.name)
    if arguments.json:
        print_json(asdict(model))
    else:
        print(model.card or model.title)
    return 0


def run_install(arguments: argparse.Namespace) -> int:
    """Install a model after its licence was accepted."""
    from MedalSLib.network import registry

    accepted = arguments.accept_licence or _ask(registry.licence_notice(arguments.name, arguments.source))
    if not accepted:
        note("Not installed: the licence was not accepted.")
        return 5
    bar = ProgressBar()
    try:
        with cancel_on_interrupt() as cancel:
            model = registry.install(
                arguments.name,
                source=arguments.source,
                accept_licence=True,
                on_progress=lambda done, total: bar(Progress("installing", done / total if total else 0.0)),
                cancel=cancel,
            )
    finally:
        bar.close()
    if arguments.json:
        print_json(asdict(model))
    note(f"installed {model.name} in {model.folder}")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Check a model's files; exit code 5 if any is damaged."""
    from MedalSLib.network import registry

    registry.verify(arguments.name)
    if arguments.json:
        print_json({"name": arguments.name, "verified": True})
    note(f"{arguments.name}: every file matches its checksum")
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Write a model as ONNX or as a MONAI bundle."""
    from MedalSLib.network.bundle import open_model

    model = open_model(arguments.name)
    if arguments.format == "onnx":
        from MedalSLib.network.onnx_export import export_onnx

        if asked := [f"--{name}" for name in ("modality", "text", "stage") if getattr(arguments, name)]:
            raise InputError(f"{', '.join(asked)} is for a MONAI bundle.", "Leave it out, or add --format monai.")
        files = export_onnx(model, arguments.folder)
    else:
        from MedalSLib.network.monai_bundle import export_monai

        files = export_monai(model, arguments.folder, arguments.modality, arguments.text, arguments.stage)
    if arguments.json:
        print_json({"files": files})
    note(f"wrote {', '.join(file.relative_to(arguments.folder).as_posix() for file in files)} in {arguments.folder}")
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Delete an installed model."""
    from MedalSLib.network import registry

    registry.remove(arguments.name)
    if arguments.json:
        print_json({"name": arguments.name, "removed": True})
    note(f"removed {arguments.name}")
    return 0


def _ask(notice: str) -> bool:
    """Show a licence and ask; without a terminal the answer is no."""
    print(notice, file=sys.stderr)
    if not sys.stdin.isatty():
        note("Give --accept-licence to install without being asked.")
        return False
    return input("Accept and install? [y/N] ").strip().lower() in {"y", "yes"}
