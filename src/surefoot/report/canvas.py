"""An empty figure and its file, in our own style whatever a user's matplotlib is set to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.report.style import RC, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["canvas", "save"]

RESOLUTION = 150  # dots per inch: sharp when a browser shows the picture at two thirds of its size


@contextmanager
def _style() -> Iterator[None]:
    """Our settings and no others: what a user's matplotlib is set to neither shows nor changes."""
    require_matplotlib()
    import matplotlib

    settings: Any = dict(matplotlib.rcParamsDefault.items())  # Any: the type of its keys lists every name there is
    settings.update(RC)
    with matplotlib.rc_context(settings):
        yield


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of that many inches, independent of pyplot."""
    with _style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), dpi=RESOLUTION, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, path: Path) -> Path:
    with _style():  # ticks are made only now
        figure.savefig(path, dpi=RESOLUTION, metadata={"Software": None})
    return path
