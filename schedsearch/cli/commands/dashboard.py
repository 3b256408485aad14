"""``schedsearch dashboard``: the Optuna dashboard of a run."""

from __future__ import annotations

import argparse

from schedsearch.cli.arguments import add_run, count
from schedsearch.exceptions import ConfigError

HOST = "127.0.0.1"
"""The dashboard has no log-in and can delete studies, so it is never exposed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``dashboard``."""
    add_run(parser)
    parser.add_argument(
        "--port",
        metavar="P",
        type=count,
        default=8080,
        help="port on 127.0.0.1 (default: %(default)s)",
    )


def take_action(args: argparse.Namespace) -> int:
    """Serve the dashboard until Ctrl-C."""
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    import optuna_dashboard

    from schedsearch.cli.commands.inspect import open_run
    from schedsearch.search.study.storage import open_artifacts, open_storage

    folder, results = open_run(args.run)
    app = optuna_dashboard.wsgi(
        storage=open_storage(folder, results.settings.search.storage),
        artifact_store=open_artifacts(folder),
    )

    class Quiet(WSGIRequestHandler):
        """Requests are no news."""

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    try:
        server = make_server(HOST, args.port, app, handler_class=Quiet)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"Cannot listen on {HOST}:{args.port}: {str(error).rstrip('.')}. Choose another one "
            "with --port."
        ) from error
    print(f"http://{HOST}:{args.port}/dashboard/studies/1   (Ctrl-C ends it)", flush=True)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # the documented way to end it
            return 0
    return 0
