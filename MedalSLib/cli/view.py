"""`medals view`: the panel's work in a browser."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from MedalSLib.cli.console import Commands, note, read_key
from MedalSLib.errors import ResourceError

if TYPE_CHECKING:
    from MedalSLib.view.desk import Desk

_OF_PAGE = ("model", "api_key_file", "device", "modality", "series", "frame", "keep")


def add_commands(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "view",
        help="segment, look and correct in a browser",
        description="Open an image in a page of this computer's browser: type names, look at the result, correct it "
        "with a brush, refine it and save it. Only this computer is answered, and only who has the address.",
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image file or DICOM folder; each gets "
                        "an address of its own, for one person each")  # fmt: skip
    parser.add_argument("--model", default="starter", help="installed model, folder, or URL of a server (%(default)s)")
    parser.add_argument("--api-key-file", type=Path, help="file with the key of the server")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--modality", default="", help="CT, MRI, US, PET or Microscopy (default: guessed)")
    parser.add_argument("--series", help="of a DICOM folder: UID, number or part of the description")
    parser.add_argument("--frame", type=int, help="frame of a 4-D image, from 0")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--keep", type=float, default=60, metavar="MINUTES", help="how long the work is kept when its "
                        "page is closed, before its memory is freed (default: %(default)s)")  # fmt: skip
    parser.add_argument("--page", action="store_true", help=argparse.SUPPRESS)  # one of the processes
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve images until Ctrl-C, each by a process of its own."""
    if arguments.page:
        return _serve_page(arguments)
    from MedalSLib.view.pages import Pages

    given = {name: getattr(arguments, name) for name in _OF_PAGE}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value not in (None, "")]
    command = [sys.executable, "-m", "MedalSLib.cli", "view", "--page", *options]

    def say(addresses: list[str]) -> None:
        for image, address in zip(arguments.images, addresses, strict=True):
            note(f"Open {address} for {image.name}")
        note("Press Ctrl+C to stop.")

    asyncio.run(Pages([[*command, "--", str(image)] for image in arguments.images]).serve(arguments.port, say))
    return 0


def _serve_page(arguments: argparse.Namespace) -> int:
    from MedalSLib.vocabulary import normalize_modality
    from MedalSLib.volume.reading import read_image

    image = read_image(arguments.images[0], frame=arguments.frame, series=arguments.series)
    for warning in image.warnings:
        note(f"note: {warning}")
    try:
        from MedalSLib.view.app import view
    except ImportError as error:  # one is missing, or they do not fit each other
        raise ResourceError(
            f"The packages of the page are not installed ({error}).", 'Install them with: pip install "medals[view]"'
        ) from error

    def choose(desk: Desk) -> None:
        engines = desk.model.engines
        engines.device = arguments.device
        if arguments.model.startswith(("http://", "https://")):
            engines.kind, engines.url = "remote", arguments.model
            engines.key = read_key(arguments.api_key_file).get("api_key", "")
        else:
            engines.model = arguments.model
        guess = image.modality
        chosen = arguments.modality or (guess.modality if guess.certain else "")
        desk.model.prompt.choose(normalize_modality(chosen) if chosen else "")

    view(image, 60 * arguments.keep, lambda address: print(address, flush=True), choose)
    return 0
