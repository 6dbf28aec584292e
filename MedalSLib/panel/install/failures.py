"""Known ways in which an installation fails, recognised by words in its output, each with what to do about it."""

from __future__ import annotations

import re

from MedalSLib.errors import OutputError, ResourceError
from MedalSLib.panel.i18n import tr as _


def explain(output: str) -> Exception:
    """Return what pip and the exception said of a failed installation as an error with cause and remedy."""
    for pattern, cause, remedy in _known():
        if re.search(pattern, output, re.IGNORECASE):
            kind = OutputError if "space" in cause.casefold() else ResourceError
            return kind(cause, remedy)
    lines = [line.strip() for line in output.strip().splitlines() if line.strip()]
    last = lines[-1][:200] if lines else _("no output")
    return ResourceError(
        _("The installation failed: {reason}.").format(reason=last.rstrip(".")),
        _("Copy the diagnostics and look for the reason in them, or use a server."),
    )


def _known() -> tuple[tuple[str, str, str], ...]:
    return (
        (
            r"WinError 206|path too long|file name or extension is too long",
            _("The path of 3D Slicer is too long for Windows."),
            _("Install 3D Slicer in a short path, such as C:/Slicer, and try again."),
        ),
        (
            r"No space left|Errno 28|WinError 112|disk full",
            _("There is no space left on the disk."),
            _("Free some space and press Install again; it goes on where it stopped."),
        ),
        (
            r"CERTIFICATE_VERIFY_FAILED|SSLError|certificate verify",
            _("The connection is not trusted: a proxy or firewall replaces certificates."),
            _("Ask your IT for the certificate bundle and set the environment variable PIP_CERT to it."),
        ),
        (
            r"ProxyError|NewConnectionError|getaddrinfo|Name or service not known|ConnectTimeout|Max retries exceeded"
            r"|Network is unreachable",
            _("The package index cannot be reached."),
            _("Check network, proxy and firewall, then press Install again."),
        ),
        (
            r"PermissionError|Permission denied|Access is denied|WinError 5\b",
            _("A file of 3D Slicer may not be changed, or is in use."),
            _("Restart 3D Slicer and try again at once; if it lies in a protected folder, install it in your own."),
        ),
        (
            r"ResolutionImpossible|conflicting dependencies",
            _("The packages do not fit those that 3D Slicer or another extension has installed."),
            _("Update 3D Slicer, or use a server; nothing was changed."),
        ),
        (
            r"No matching distribution|Could not find a version",
            _("A package is not made for this Python or platform."),
            _("Update 3D Slicer to the newest stable version, or use a server."),
        ),
        (
            r"MemoryError|Killed|exit status -9|exit status 137",
            _("The installation ran out of memory."),
            _("Close other programs and press Install again."),
        ),
    )
