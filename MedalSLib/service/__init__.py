"""The remote engine: the session of `MedalSLib.engine` over HTTP, as a server and as its client.

The client's side (`client`, `transport`, `addresses`, `child`, `protocol`, `encoding`) needs numpy and requests only;
the server's side (`app` and what it uses) needs the `server` extra.
"""
