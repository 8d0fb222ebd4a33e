"""Curves: equal runs give equal files, and the lines are the certified accuracies."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.runs import collect
from certsmooth.errors import CertsmoothError, ConfigError
from certsmooth.report.figures import curves
from certsmooth.report.figures.panels import panels_figure, write_figure
from factories import certified_run


def write(runs, folder, name="t"):
    return write_figure(lambda: curves.certified_curves(runs, title="T"), folder, name=name)


def example(sigmas=(0.25, 0.5)):
    rng = np.random.default_rng(0)
    return [
        certified_run(np.minimum(rng.normal(s, s, 40), 3 * s), method=m, sigma=s, guarantee=g, grid={"iterations": k})
        for s in sigmas
        for m, g, k in (("cohen", "global", 0), ("cohen_ds", "memory", 100), ("cohen_ds", "memory", 400))
    ]


@pytest.mark.slow
def test_equal_runs_give_equal_bytes_without_dates(tmp_path):
    (tmp_path / "again").mkdir()
    first = write(example(), tmp_path)
    second = write(example(), tmp_path / "again")
    assert [p.name for p in first] == ["t.svg", "t.png"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "t.png", "t.svg"]
    assert b"<dc:date>" not in first[0].read_bytes()
    assert ET.parse(first[0]).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    width, height = struct.unpack(">II", first[1].read_bytes()[16:24])
    assert width > height > 300


@pytest.mark.slow
def test_other_runs_give_other_files(tmp_path):
    runs = example()
    first = write(runs, tmp_path, name="a")
    second = write(
        [*runs[:-1], certified_run([0.1] * 40, method="cohen_ds", grid={"iterations": 400})], tmp_path, name="b"
    )
    assert first[0].read_bytes() != second[0].read_bytes()
    assert first[1].read_bytes() != second[1].read_bytes()


def lines_of(axis):
    return {line.get_label(): line for line in axis.get_lines()}


@pytest.mark.parametrize(("sigmas", "panels"), [((0.5,), 1), ((0.25, 0.5), 3), ((0.12, 0.25, 0.5, 1.0), 5)])
def test_one_panel_per_sigma_and_the_envelope(sigmas, panels):
    figure = curves.certified_curves(example(sigmas), title="T")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"σ = {s:g}" for s in sigmas] + ["Envelope"] * (len(sigmas) > 1)
    assert len(figure.axes) == panels
    assert {axis.get_xlabel() for axis in figure.axes} == {r"$\ell_{2}$ radius"}
    assert figure.axes[0].get_ylabel() == "Certified accuracy (%)"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Cohen (global)", "Cohen-DS (memory)"]


@pytest.mark.parametrize("width", [2.6, 3.4])
def test_what_is_written_above_and_below_a_single_panel_fits(width):
    """A title of 103 letters, and a heading of 119."""
    title, legend = "Wide letters, as m and w, " * 4, "Bands: 95 % intervals for the finite test set; in brackets. " * 2

    def draw(axis, _):
        axis.plot([0, 1], [0, 1], label="Line")

    figure = panels_figure([("Panel", None)], draw, size=(width, 2.4), title=title, labels=("x", "y"), legend=legend)
    FigureCanvasAgg(figure).draw()
    (heading,) = figure.legends
    assert [text.get_text().replace("\n", " ") for text in figure.texts] == [title.strip()]
    for text in (*figure.texts, heading.get_title()):
        extent = text.get_window_extent()
        assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width


def test_lines_are_the_best_certified_accuracy_at_each_radius():
    runs = example()
    figure = curves.certified_curves(runs, title="T")
    for axis, sigma in zip(figure.axes, (0.25, 0.5, None), strict=True):
        lines = lines_of(axis)
        assert len(lines) == 2
        for method, line in zip(("cohen", "cohen_ds"), lines.values(), strict=True):
            chosen = [r for r in runs if r.method == method and sigma in (None, r.sigma)]
            for radius, value in zip(*line.get_data(), strict=True):
                best = max(np.mean((r.frame["correct"] == 1) & (r.frame["radius"] >= radius)) for r in chosen)
                assert value == pytest.approx(100 * best)


def test_envelope_and_its_band_by_hand():
    runs = [certified_run([0.5, 0.5, -1, 0.2], sigma=0.25), certified_run([2.0, -1, -1, -1], sigma=0.5)]
    (method,) = collect(runs, "test")
    best, band = curves.envelope(method.outcomes, np.array([0.0, 0.5, 0.6, 3.0]))
    assert best.tolist() == [0.75, 0.5, 0.25, 0.0]
    assert band.T.tolist() == [list(accuracy_interval(value, 4)) for value in best]


def near_and_far():
    """Two methods of which one certifies one image of 40 more or less, and one that is far away, at two sigmas."""
    radii = np.linspace(0.01, 1, 40)
    near = np.where(np.arange(40) == 20, -1.0, radii)
    return [
        certified_run(sigma * shown, method=method, sigma=sigma)
        for sigma in (0.5, 1.0)
        for method, shown in (("cohen", radii), ("cohen_ds", near), ("nn", radii / 2))
    ]


def test_a_last_panel_is_the_difference_of_curves_that_nearly_coincide():
    *others, last = curves.certified_curves(near_and_far(), title="T", baseline="Cohen").axes
    assert [axis.get_title() for axis in others] == ["σ = 0.5", "σ = 1", "Envelope"]
    assert last.get_title() == "Difference to Cohen"
    zero, line = last.get_lines()
    assert line.get_color() == others[0].get_lines()[1].get_color()
    assert set(zero.get_ydata()) == {0}
    best = [dict(zip(*each.get_data(), strict=True)) for each in others[2].get_lines()[:2]]
    for radius, value in zip(*line.get_data(), strict=True):
        assert value == pytest.approx(best[1][radius] - best[0][radius])
    assert value == 0 and min(line.get_ydata()) == pytest.approx(-2.5)  # one image of 40
    assert last.get_ylim()[1] < 20 < others[0].get_ylim()[1]


def test_without_curves_that_nearly_coincide_there_is_no_such_panel():
    far = [run for run in near_and_far() if run.method != "cohen_ds"]
    assert len(curves.certified_curves(far, title="T", baseline="Cohen").axes) == 3
    assert len(curves.certified_curves(near_and_far(), title="T").axes) == 3


def test_what_a_paper_gives_is_dashed_where_a_method_has_its_name():
    given = [("Cohen", "best", 0.5, 61.0), ("Cohen", "best", 0.0, 80.0), ("Cohen", "0.5", 0.0, 70.0)]
    given.append(("Another", "best", 0.0, 1.0))
    published = [dict(zip(("method", "sigma", "radius", "value"), each, strict=True)) for each in given]
    figure = curves.certified_curves(near_and_far(), title="T", published=published)
    found = [lines_of(axis).get("Cohen (published)") for axis in figure.axes]
    assert [None if line is None else np.transpose(line.get_data()).tolist() for line in found] == [
        [[0.0, 70.0]],
        None,
        [[0.0, 80.0], [0.5, 61.0]],
    ]
    assert found[2].is_dashed()
    assert not any("Another" in name for axis in figure.axes for name in lines_of(axis))


def test_runs_without_any_certified_image_can_be_drawn(tmp_path):
    paths = write([certified_run([-1.0, -1.0, -1.0])], tmp_path)
    assert all(path.stat().st_size > 1000 for path in paths)


def test_settings_of_matplotlib_are_left_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    write(example(), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_errors(tmp_path):
    with pytest.raises(ConfigError, match="no runs on the test split"):
        write([certified_run([1.0, 1.0], split="validation")], tmp_path)
    with pytest.raises(CertsmoothError, match="cannot be written"):
        write(example(), tmp_path / "absent")


def test_a_legend_of_long_labels_stays_in_the_figure():
    runs = [
        certified_run([0.1, 0.2], method="cohen", label="As it is printed in the paper, with its iterations", sigma=s)
        for s in (0.25, 0.5)
    ]
    runs += [
        certified_run([0.1, 0.2], method="cohen_ds", label="As the program of its authors has it, with these", sigma=s)
        for s in (0.25, 0.5)
    ]
    figure = curves.certified_curves(runs, title="T")
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
