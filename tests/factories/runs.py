"""Certified runs, which tables and figures are made of, and what tests ask of the frames of a table."""

import numpy as np
import pandas as pd

from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.result import records
from factories.artefacts import DIGEST

METHODS = {
    "cohen": ("Cohen", "FS"),
    "cohen_ds": ("Cohen-DS", "DS"),
    "smoothadv": ("SmoothAdv", "FS"),
    "nn": ("IDRS", "NN"),
}
"""The label of each method, and its sigma in certification."""


def rows(frame, **columns):
    """Return the rows of a frame that have these values; None for an absent one."""
    return [row for row in records(frame) if all(row[name] == value for name, value in columns.items())]


def row(frame, **columns):
    """Return the only such row."""
    (found,) = rows(frame, **columns)
    return found


def column(frame, name, **columns):
    """Return a column of these rows."""
    return [found[name] for found in rows(frame, **columns)]


def provenance(images, **named):
    """The provenance of a certified run of the digits, but for what ``named`` says otherwise."""
    return {
        "dataset": "digits",
        "description": "digits of scikit-learn",
        "fingerprint": DIGEST,
        "images": images,
        "n0": 100,
        "n": 1000,
        "alpha": 0.001,
        "certificate": {"name": "cohen", "options": {}},
        "norm": "l2",
        "step": "1/255",
        "dimension": 64,
        "semi_elasticity": 0.0,
        "seed": 7,
        "device": "cpu",
        "seconds": 12.5,
        "numeric_type": "float32",
        "versions": {"python": "3.11.2", "torch": "2.8.0"},
        "git_commit": "0123456789abcdef",
        "image": None,
        "sampled_by": [],
        "memory": None,
        **named,
    }


def certified_run(
    radius,
    *,
    labels=1,
    predict=None,
    method="cohen",
    guarantee="global",
    alpha=0.001,
    columns=None,
    made=None,
    **fields,
):
    """A run of one certificate per image: of class 0 where the radius is negative, but for what is said otherwise.

    Args:
        radius: one per image, without its sign.
        labels: of the images.
        predict: their classes; by default the labels where the radius is not negative.
        method: one of METHODS.
        guarantee: of every certificate.
        alpha: of every certificate.
        columns: other columns of the certificates than those of a constant sigma.
        made: of the provenance, what is not as in `provenance`.
        fields: of the run.
    """
    radius = np.asarray(radius, dtype=float)
    labels = np.broadcast_to(labels, len(radius))
    predict = np.where(radius >= 0, labels, 0) if predict is None else np.asarray(predict)
    frame = pd.DataFrame(
        {
            "idx": np.arange(len(radius)) * 20,
            "label": labels,
            "predict": predict,
            "radius": np.abs(radius),
            "correct": (predict == labels).astype(int),
            "time": 1.0,
            "sigma": 0.5,
            "p_a_lower": 0.9,
            "n": 1000,
            "alpha": alpha,
            "guarantee": guarantee,
            "radius_before_memory": np.abs(radius),
        }
    ).assign(**columns or {})
    shown, certify = METHODS[method]
    known = {"label": shown, "train": "FS", "certify": certify, "sigma": 0.5, "grid": {}, "seed": 0, "split": "test"}
    known["certification_seed"] = 7
    about = provenance(len(radius), alpha=alpha, **{"seed": (known | fields)["certification_seed"], **(made or {})})
    return CertifiedRun(method=method, frame=frame, provenance=about, **known | fields)
