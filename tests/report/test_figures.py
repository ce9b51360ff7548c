"""Figures show what they must: every agent, the limit, what lies beyond it. They were also looked at by eye."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from surefoot.report.figures import MOST_BANDS, compose_figure2, figure2
from surefoot.report.gridworld_figure import compose_figure1, figure1
from surefoot.report.records import read_curves, read_landscape, read_summary
from surefoot.report.style import KNOWN, SPARE, label_of, styles_of
from tests.refusals import refused
from tests.report.runs import AGENTS, write_run


def draw2(directory: Path) -> Figure:
    summary = read_summary(directory)
    sizes = {"tasks": len(summary.tasks), "constraints": summary.cost_limits.size}
    return compose_figure2({a.name: read_curves(directory, a.name, **sizes) for a in summary.agents}, summary)


def limit_lines(axes: Axes) -> list[float]:
    return [float(line.get_ydata()[0]) for line in axes.lines if line.get_label() == "limit"]  # type: ignore[index]


@pytest.mark.slow
def test_files_are_written_and_hold_a_picture(tmp_path: Path) -> None:
    write_run(tmp_path)
    for path in (figure1(tmp_path), figure2(tmp_path)):
        picture = imread(path)
        assert path.parent == tmp_path
        assert picture.shape[0] > 500
        assert picture.shape[1] > 1200
        assert len(np.unique((picture[..., :3] * 255).astype(np.int64) @ [1, 256, 65536])) > 20


@pytest.mark.parametrize("limits", [(1.5,), (1.5, 0.2), (0.0, 3.0)])
def test_every_constraint_has_a_panel_with_its_limit_in_view(tmp_path: Path, limits: tuple[float, ...]) -> None:
    write_run(tmp_path, limits=limits)
    regret, *costs = draw2(tmp_path).axes
    assert len(costs) == len(limits)
    assert limit_lines(regret) == []
    for axes, limit in zip(costs, limits):
        low, high = axes.get_ylim()
        assert limit_lines(axes) == [limit]
        assert low <= limit < high
        assert any(text.get_text() == f"limit\n{limit:g}" for text in axes.texts)


def test_the_limit_lies_above_every_line_that_could_hide_it(tmp_path: Path) -> None:
    write_run(tmp_path)
    axes = draw2(tmp_path).axes[1]
    (limit,) = [line for line in axes.lines if line.get_label() == "limit"]
    rivals = [line for line in axes.lines if line is not limit and line.get_linestyle() != "None"]
    assert len(rivals) > len(AGENTS)
    assert limit.get_zorder() > max(line.get_zorder() for line in rivals)


def test_an_agent_that_runs_along_the_limit_shows_markers_alone(tmp_path: Path) -> None:
    write_run(tmp_path)
    styles = {line.get_label(): line.get_linestyle() for line in draw2(tmp_path).axes[1].lines}
    assert styles["oracle"] == "None"
    assert styles["pce"] == "-"


def test_every_agent_is_drawn_with_its_numbers_and_named_in_the_legend(tmp_path: Path) -> None:
    raw = write_run(tmp_path)
    figure = draw2(tmp_path)
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[0].lines}
    for name in AGENTS:
        assert lines[name][-1] == pytest.approx(np.mean(raw["agents"][name]["regret"]["2000"]))
    named = {text.get_text() for text in figure.legends[0].get_texts()}
    assert set(AGENTS) < named


@pytest.mark.slow
def test_the_legend_and_titles_do_not_overlap_the_panels(tmp_path: Path) -> None:
    write_run(tmp_path, limits=(1.5, 0.2), agents=[*AGENTS, *KNOWN, *(f"other:{k}" for k in range(4))])
    figure = draw2(tmp_path)
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    panels = [axes.get_tightbbox() for axes in figure.axes]
    boxes = [box for box in panels if box is not None]
    assert len(boxes) == 3
    assert all(not legend.overlaps(box) for box in boxes)
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert legend.y0 >= 0


def test_regret_over_many_decades_gets_a_symmetric_log_axis(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert draw2(tmp_path).axes[0].get_yscale() == "linear"
    with np.load(tmp_path / "curves" / "pce.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "curves" / "pce.npz", **{**arrays, "regret": np.abs(arrays["regret"]) / 100})
    assert draw2(tmp_path).axes[0].get_yscale() == "symlog"


def test_figure1_shades_where_no_policy_is_feasible_and_prints_the_values(tmp_path: Path) -> None:
    write_run(tmp_path)
    *grids, values = compose_figure1(read_landscape(tmp_path), read_summary(tmp_path)).axes
    assert [axes.get_title(loc="left") for axes in grids] == [
        "Optimal policy at noise 0.1\nexpected reward 59.60",
        "Optimal policy at noise 0.3\nexpected reward 56.40",
    ]
    texts = {text.get_text() for text in values.texts}
    assert texts == {"59.60", "56.40", "beyond 0.4 no policy\nmeets the limit"}


def test_figure1_arrows_follow_the_policy(tmp_path: Path) -> None:
    write_run(tmp_path)
    figure = compose_figure1(read_landscape(tmp_path), read_summary(tmp_path))
    plain, random = (axes.collections[0] for axes in figure.axes[:2])
    assert (plain.U.tolist(), set(plain.V.tolist())) == ([0.0] * 8, {0.72})  # type: ignore[attr-defined]
    right, left = sorted(random.U[np.abs(random.U) > 0], reverse=True)  # type: ignore[attr-defined]
    assert right / -left == pytest.approx(0.7 / 0.3)


@pytest.mark.slow
def test_a_second_drawing_is_the_same_whatever_the_users_settings(tmp_path: Path) -> None:
    write_run(tmp_path)
    plain = figure2(tmp_path).read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20, "xtick.color": "red"}):
        assert figure2(tmp_path).read_bytes() == plain
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.slow
def test_pyplot_is_not_loaded(tmp_path: Path) -> None:
    code = "import sys; import surefoot.report.gridworld_figure as f; "
    code += f"f.figure1({str(tmp_path)!r}); print('matplotlib.pyplot' in sys.modules)"
    write_run(tmp_path)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with refused("SF-EXTRA-MISSING", '"surefoot[figures]"'):
        figure2(tmp_path)


def test_a_directory_without_logs_is_refused(tmp_path: Path) -> None:
    with refused("SF-RECORD-MISSING"):
        figure1(tmp_path)


def test_every_known_agent_looks_different_and_so_do_the_spares() -> None:
    looks = [*KNOWN.values(), *SPARE]
    assert len({(look.color, str(look.dash), look.marker) for look in looks}) == len(looks)
    assert all(to_hex(look.color) == look.color.lower() for look in looks)
    names = [f"agent:{k}" for k in range(len(SPARE) + 1)]
    styles = styles_of(["pce", *names])
    assert styles["pce"] is KNOWN["pce"]
    assert [styles[name] for name in names] == [*SPARE, SPARE[0]]


@pytest.mark.parametrize(("name", "label"), [("a$b$", r"a\$b\$"), ("_x", " _x"), ("a\x00b", "a?b"), ("pce", "pce")])
def test_names_are_labels_as_they_stand(name: str, label: str) -> None:
    assert label_of(name) == label


def test_bands_give_way_when_many_agents_are_drawn(tmp_path: Path) -> None:
    bands = []
    for folder, names in (("few", AGENTS), ("many", [*AGENTS, *(f"other:{k}" for k in range(MOST_BANDS))])):
        write_run(tmp_path / folder, agents=names)
        regret = draw2(tmp_path / folder).axes[0]
        bands.append((len(regret.collections), len(regret.lines) - len(names)))
    assert bands == [(len(AGENTS), 2 * len(AGENTS)), (0, 0)]
