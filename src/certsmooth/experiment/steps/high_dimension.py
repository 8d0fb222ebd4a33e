"""What IDRS would certify in high dimension, from certificates of a constant sigma."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from certsmooth.analysis.high_dimension import high_dimension_table, with_probabilities
from certsmooth.artefacts.certificates import read_published_certificates
from certsmooth.errors import ConfigError
from certsmooth.experiment.members import check_high_dimension
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import high_dimension_files, high_dimension_runs
from certsmooth.experiment.steps.certified import Certified
from certsmooth.report.figures.curves import high_dimension_curves
from certsmooth.report.figures.panels import write_figure
from certsmooth.report.render import write_table


def make_high_dimension(experiment: Experiment, *, results: Path) -> None:
    """Write ``idrs/imagenet`` as Markdown, CSV and JSON, and its figure as SVG and PNG.

    Args:
        experiment: all that is asked for; ``high_dimension`` says from which certificates.
        results: folder that holds ``certificates``.

    Raises:
        ConfigError: there is no ``high_dimension``, or its method has not a constant sigma and Gaussian noise.
        CountsError: certificates are missing or damaged, or published ones cannot be of the sigma given with them.
    """
    params, certified = experiment.params, Certified(experiment, results)
    chosen = params.high_dimension
    if chosen is None:
        raise ConfigError("high_dimension: missing; must say from which certificates, dimension and rates")
    check_high_dimension(params)
    frames: dict[str, pd.DataFrame] = {}
    about = []
    for run in high_dimension_runs(params):
        found = certified.run(run, "test")
        frames[f"{found.label}, {run.dataset}, sigma {run.sigma:g}"] = found.frame
        provenance = found.provenance
        about.append(
            f"{provenance['dataset']} ({provenance['fingerprint']}, {provenance['images']} images, n = "
            f"{provenance['n']:,}, alpha = {provenance['alpha']:g}, device {provenance['device']})"
        )
    for method, sigma, file in high_dimension_files(params):
        frame = read_published_certificates(Path(file), sigma=sigma)
        label = params.published_methods[method].label
        frames[f"{label} (published), sigma {sigma:g}"] = with_probabilities(frame, sigma)
        about.append(f"{file}, as published")
    folder, figures = results / "tables" / "idrs", results / "tables" / "figures" / "idrs"
    for each in (folder, figures):
        each.mkdir(parents=True, exist_ok=True)
    result = high_dimension_table(
        frames,
        name="imagenet",
        title="What IDRS certifies in the dimension of ImageNet",
        about=f"p_A from {'; '.join(dict.fromkeys(about))}.",
        rates=chosen.rates,
        radii=chosen.radii,
        dimension=chosen.dimension,
    )
    write_figure(lambda: high_dimension_curves(result), figures, name=result.name)
    write_table(result, folder, figure="../figures/idrs/imagenet.svg")
