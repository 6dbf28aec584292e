"""`medals serve` and `medals keys`: the engine for other computers."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from MedalSLib.cli.console import Commands, note, print_json, read_key
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
    parser.add_argument("--proxy", action="append", default=[], metavar="ADDRESS",
                        help="address or network of a reverse proxy whose X-Forwarded-For is believed (repeatable; "
                        "default: nobody's)")  # fmt: skip
    parser.add_argument("--memory-mb", type=int, help="for images and results (default: half of the machine's)")
    parser.add_argument("--audit-log", type=Path, help="append who ran what when to this file")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    parser.add_argument("--ray", action="store_true", help="deploy on Ray Serve, a replica for each GPU")
    parser.add_argument("--replicas", type=int, help="with --ray: so many replicas (default: as the load asks for)")
    parser.set_defaults(run=run_serve)

    keys = commands.add_parser("keys", help="make, list and remove the server's API keys, and see their use")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    adding = actions.add_parser("add", help="make a key; it is shown once, the file holds its hash")
    removing = actions.add_parser(
        "remove", help="take the keys of a name away; a running server refuses them in a second"
    )
    removing.add_argument("--keep-newest", action="store_true", help="only the older ones (the end of a rotation)")
    listing = actions.add_parser("list", help="list the names")
    for action, run in ((adding, run_add), (removing, run_remove), (listing, run_list)):
        action.add_argument("file", type=Path, help="the server's key file")
        action.set_defaults(run=run)
    for action in (adding, removing):
        action.add_argument("name", help="person or computer the key is for")
    adding.add_argument("--scope", action="append", default=[], dest="scopes", metavar="SCOPE",
                        help="run, metrics or admin (repeatable; default: run and metrics)")  # fmt: skip
    adding.add_argument("--expires", default="", metavar="DATE", help="year-month-day from which on it is refused")
    using = actions.add_parser("used", help="ask a running server when each name's key was used last")
    using.add_argument("url", help="the server's address")
    using.add_argument("--api-key-file", type=Path, required=True, help="file with a key of the scope admin")
    using.set_defaults(run=run_used)
    for action in (listing, using):
        action.add_argument("--json", action="store_true", help="print JSON")


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
        proxies=tuple(arguments.proxy),
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

    print(add_key(arguments.file, arguments.name, arguments.scopes, arguments.expires))
    note(f"Give this key to {arguments.name}; it cannot be shown again.")
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Remove keys."""
    from MedalSLib.service.keys import remove_keys

    count = remove_keys(arguments.file, arguments.name, arguments.keep_newest)
    note(f"removed {count} keys of {arguments.name}")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """List the keys: names, scopes, and until when they are accepted."""
    from MedalSLib.service.keys import read_key_file

    keys = [
        {"name": record.name, "scopes": sorted(record.scopes), "expires": record.expires and str(record.expires)}
        for record in read_key_file(arguments.file)
    ]
    if arguments.json:
        print_json(keys)
        return 0
    for key in keys:
        print(f"{key['name']:<24} {','.join(key['scopes'] or ()):<18} {key['expires'] or 'does not expire'}")
    return 0


def run_used(arguments: argparse.Namespace) -> int:
    """Show how the keys of a running server were used."""
    from MedalSLib.service.client import ask_key_usage

    uses = ask_key_usage(arguments.url, read_key(arguments.api_key_file)["api_key"])
    if arguments.json:
        print_json({name: asdict(use) for name, use in uses.items()})
        return 0
    for name, use in uses.items():
        print(f"{name:<24} {use.requests:>9} requests, last {use.last or 'never since the server was started'}")
    return 0
