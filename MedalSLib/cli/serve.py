"""`medals serve` and `medals keys`: the engine for other computers."""

from __future__ import annotations

import argparse
from pathlib import Path

from MedalSLib.cli.console import Commands, note, print_json
from MedalSLib.errors import ResourceError


def add_commands(commands: Commands) -> None:
    """Add both commands to the parser."""
    from MedalSLib.service.protocol import DEFAULT_PORT

    parser = commands.add_parser(
        "serve",
        help="serve the engine to other computers",
        description="Serve a model over HTTP. Off the loopback it starts only with keys and TLS (or --insecure).",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="default: %(default)s; 0 for a free one")
    parser.add_argument("--model", default="starter", help="installed model or folder (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: %(default)s)")
    parser.add_argument("--api-key-file", type=Path, help="file of hashed keys; make them with 'medals keys add'")
    parser.add_argument("--tls-certificate", type=Path, help="certificate chain (PEM)")
    parser.add_argument("--tls-key", type=Path, help="its private key (PEM)")
    parser.add_argument(
        "--insecure", action="store_true", help="start off the loopback without keys or TLS all the same"
    )
    parser.add_argument("--memory-mb", type=int, help="for images and results (default: half of the machine's)")
    parser.add_argument("--audit-log", type=Path, help="append who ran what when to this file")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    parser.add_argument("--ray", action="store_true", help="deploy on Ray Serve, a replica for each GPU")
    parser.add_argument("--replicas", type=int, help="with --ray: so many replicas (default: as the load asks for)")
    parser.set_defaults(run=run_serve)

    keys = commands.add_parser("keys", help="make, list and remove the server's API keys")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    adding = actions.add_parser("add", help="make a key; it is shown once, the file holds its hash")
    removing = actions.add_parser("remove", help="take the keys of a name away; a running server refuses them at once")
    removing.add_argument("--keep-newest", action="store_true", help="only the older ones (the end of a rotation)")
    listing = actions.add_parser("list", help="list the names")
    for action, run in ((adding, run_add), (removing, run_remove), (listing, run_list)):
        action.add_argument("file", type=Path, help="the server's key file")
        action.set_defaults(run=run)
    for action in (adding, removing):
        action.add_argument("name", help="person or computer the key is for")
    listing.add_argument("--json", action="store_true", help="print JSON")


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from MedalSLib.engine import Engine, open_engine
    from MedalSLib.service.keys import read_key_file
    from MedalSLib.service.settings import MEBIBYTE, Settings, check_exposure

    settings = Settings(
        host=arguments.host,
        port=arguments.port,
        key_file=arguments.api_key_file,
        certificate=arguments.tls_certificate,
        certificate_key=arguments.tls_key,
        insecure=arguments.insecure,
        memory_bytes=None if arguments.memory_mb is None else arguments.memory_mb * MEBIBYTE,
        audit_file=arguments.audit_log,
    )
    check_exposure(settings)
    if settings.key_file is not None:
        read_key_file(settings.key_file)  # what is wrong with it is said now, not after the packages were imported
    options = {"threads": arguments.threads} if arguments.threads else {}

    def factory() -> Engine:
        return open_engine(arguments.model, arguments.device, **options)

    if arguments.ray:
        from MedalSLib.service.scaleout import serve_on_ray

        serve_on_ray(factory, settings, arguments.replicas, note)
        return 0
    try:
        from MedalSLib.service.app import create_app
        from MedalSLib.service.serving import serve_app
    except ModuleNotFoundError as error:
        raise ResourceError(
            f"The package {error.name} is not installed.", 'Install it with: pip install "medals[server]"'
        ) from error
    serve_app(
        create_app(factory, settings),
        settings,
        lambda port: note(f"Medal S listens on {settings.url(port)}; press Ctrl+C to stop."),
    )
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """Print a new key, the only time it is seen."""
    from MedalSLib.service.keys import add_key

    print(add_key(arguments.file, arguments.name))
    note(f"Give this key to {arguments.name}; it cannot be shown again.")
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Remove keys."""
    from MedalSLib.service.keys import remove_keys

    count = remove_keys(arguments.file, arguments.name, arguments.keep_newest)
    note(f"removed {count} keys of {arguments.name}")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """List the names of the keys."""
    from MedalSLib.service.keys import read_key_file

    names = [record.name for record in read_key_file(arguments.file)]
    if arguments.json:
        print_json(names)
    else:
        print("\n".join(names))
    return 0
