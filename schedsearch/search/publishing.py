"""What a run leaves for people to look at: the certificate, the picture and the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.search.certifying import can_certify, certify_run
from schedsearch.search.dashboard import study_note
from schedsearch.runs.profile_files import load_error_table
from schedsearch.runs.results import RunResults

if TYPE_CHECKING:
    from schedsearch.search.dashboard import TrialPublisher
    from schedsearch.search.preflight import Preflight
    from schedsearch.runs.folder import RunFolder

PlotFront = Callable[[RunResults, Path, Sequence[tuple[float, float]] | None], None]
"""Draws the front, with the surrogate's bound where there is one; given by the command line,
since pictures belong to ``report``."""


class Publication:
    """Certificate, picture and dashboard of a run whose stages are over.

    Args:
        ready: What the checks made.
        folder: The run folder, locked.
        publisher: Shows the study in the dashboard.
        plot_front: Draws ``front.png``; None leaves the picture out.
    """

    def __init__(
        self,
        ready: Preflight,
        folder: RunFolder,
        publisher: TrialPublisher,
        plot_front: PlotFront | None,
    ) -> None:
        self._ready = ready
        self._folder = folder
        self._publisher = publisher
        self._plot_front = plot_front

    def is_complete(self, results: RunResults) -> bool:
        """Whether certificate and picture are there; a kill may have come before them."""
        certified = self._folder.certificate_file.exists() or not can_certify(results)
        drawn = self._folder.front_png.exists() or not results.entries
        return certified and (drawn or self._plot_front is None)

    def publish(self, results: RunResults) -> None:
        """Certify and draw the front, and show the study in the dashboard."""
        settings = self._ready.settings
        table = load_error_table(self._folder, settings)
        certificate = certify_run(results, self._ready.visits, table, self._ready.predict_ms)
        if certificate is not None:
            certificate.save(self._folder)
        pictures = []
        if self._plot_front is not None and results.entries:
            bound = None if certificate is None else certificate.bound
            self._plot_front(results, self._folder.front_png, bound)
            pictures.append(self._folder.front_png)
        attributes = {
            "num_schedules": settings.space.build().size(),
            "hypervolume": results.hypervolume(),
            "latency_table": dict(self._ready.latency.table),
            "front": [entry.trial for entry in results.front()],
            "certificate": None if certificate is None else certificate.sentence,
        }
        self._publisher.publish_study(study_note(results), attributes, pictures)
