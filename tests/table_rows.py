"""What tests put into a table, and ask of its frames."""

from certsmooth.analysis.result import records


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
        "fingerprint": "sha256:" + "ab" * 32,
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
