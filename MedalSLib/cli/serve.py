"""`medals serve` and `medals keys`: the engine for other computers."""

from __future__ import annotations

import argparse
from pathlib import Path

from MedalSLib.cli.console import Commands, note, print_json


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
    from MedalSLib.service.commands import serve

    return serve(
        arguments.host,
        arguments.port,
        model=arguments.model,
        device=arguments.device,
        api_key_file=arguments.api_key_file,
        tls_certificate=arguments.tls_certificate,
        tls_key=arguments.tls_key,
        insecure=arguments.insecure,
        memory_mb=arguments.memory_mb,
        audit_log=arguments.audit_log,
        threads=arguments.threads,
        ray=arguments.ray,
        replicas=arguments.replicas,
        say=note,
    )


def run_add(arguments: argparse.Namespace) -> int:
    """Print a new key, the only time it is seen."""
    from MedalSLib.service.commands import keys_add

    print(keys_add(arguments.file, arguments.name))
    note(f"Give this key to {arguments.name}; it cannot be shown again.")
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Remove keys."""
    from MedalSLib.service.commands import keys_remove

    note(f"removed {keys_remove(arguments.file, arguments.name, arguments.keep_newest)} keys of {arguments.name}")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """List the names of the keys."""
    from MedalSLib.service.commands import keys_list

    names = keys_list(arguments.file)
    if arguments.json:
        print_json(list(names))
    else:
        print("\n".join(names))
    return 0
