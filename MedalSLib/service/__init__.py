"""The engine's `Session` for other processes and computers: an HTTP server, its client, a child process, batches.

Both sides:

* `protocol` holds the messages as dataclasses (the server hands them to FastAPI, so the OpenAPI document cannot differ
  from what the client sends), the versions, and the kinds of errors.
* `encoding` turns images into compressed chunks and masks into packed bits of their box, and back; it checks sizes
  before it takes memory.  `run_messages` does so with the masks of a `RunRequest` and a `RunResult`.

The client (numpy and requests only, so a 3D Slicer without torch can use it), in the order of a call:

* `addresses.parse_address` understands what a user types; `client.connect` shakes hands and returns a `RemoteEngine`.
* `remote_session.RemoteSession` sends the image (`image_upload`), opens the session, and opens it again whenever the
  server has lost it; `remote_run.RemoteRun` is one try of a run: start, follow (`event_stream`), cancel, fetch.
* `transport` makes the requests and repeats those that failed through the network; `client_errors` says in a sentence
  what a failed one means.  `describing` says what would be sent, before anything is.
* `child.open_isolated_engine` is the same client of a server in a child process (`child_main`) of this one.

The server (needs the `server` extra), from the outside in:

* `serving` runs the app under uvicorn, whose `connections` it limits, `scaleout` on Ray Serve; `settings` holds its
  limits, `keys` its API keys.
* `app.create_app` puts `middleware` (key, version, rate, size of each request) before the `routes`.
* `server.Server` holds the parts that the routes use: the engine, `store` (images and `sessions` in a memory budget),
  `run_queue` (one run at a time, keys in turn) and `run_worker` (decodes, calls the engine, encodes).
* `http_errors` is how any of them refuses; `logs`, `server_metrics` and `healthcheck` show how the server is.

`batch` segments the same structures in many files (`batch_study` in one), with one engine or with Ray's
`batch_workers`; `batch_files`, `batch_lock` and `batch_report` are what it leaves in the folder of its results.

What keeps a session alive although everything may fail: each request that changes something is a PUT or DELETE on an
identifier that the client chose, so it can be repeated; the client keeps the image, so a server may forget it at any
time (restart, eviction, another replica); the same seed gives the same masks, so a lost run is simply run again.
"""
