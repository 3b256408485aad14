"""``schedsearch dashboard``: the Optuna dashboard of a run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from schedsearch.cli.arguments import add_run, count
from schedsearch.exceptions import ConfigError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

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
    storage = open_storage(folder, results.settings.search.storage)
    app = optuna_dashboard.wsgi(storage=storage, artifact_store=open_artifacts(folder))

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
    page = study_page(storage, results.settings.name)
    print(f"http://{HOST}:{args.port}/dashboard{page}   (Ctrl-C ends it)", flush=True)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # the documented way to end it
            return 0
    return 0


def study_page(storage: BaseStorage, name: str) -> str:
    """Path of a study's page; that of all studies where the run has none yet."""
    from schedsearch.search.study.storage import explaining_failures

    with explaining_failures(name):
        try:
            return f"/studies/{storage.get_study_id_from_name(name)}"
        except KeyError:
            return ""
