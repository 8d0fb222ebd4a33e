"""The %test of the image: what is installed is what the lock names, and it computes what it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import isclose
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from packaging.requirements import Requirement

import certsmooth
from certsmooth import CohenCertificate
from certsmooth.science.certificates import Smoothing

HERE = Path(__file__).parent
N, ALPHA, SIGMA = 100_000, 0.001, 0.5


def locked(excluded: list[str]) -> dict[str, str]:
    """Return the versions that the lock names for this machine."""
    lines = [line.rstrip(" \\") for line in (HERE / "requirements.lock").read_text().splitlines() if line[0].isalnum()]
    wanted = [Requirement(line) for line in lines]
    here = [one for one in wanted if (one.marker is None or one.marker.evaluate()) and one.name not in excluded]
    return {one.name: str(one.specifier).removeprefix("==") for one in here}


def check_packages(excluded: list[str]) -> None:
    """Compare the image's own list with the lock."""
    packages = json.loads(Path(os.environ["CERTSMOOTH_IMAGE"]).read_text())["packages"]
    python = {name: version for name, version in packages.items() if not name.startswith("debian:")}
    assert python.pop("certsmooth")
    assert python == locked(excluded), set(python.items()) ^ set(locked(excluded).items())
    assert "debian:bash" in packages  # in which Snakemake runs a job


def check_own() -> None:
    """What runs is the image's package, and no other comes before it."""
    assert Path(certsmooth.__file__).is_relative_to("/opt/certsmooth"), certsmooth.__file__
    subprocess.run(["certsmooth", "--help"], check=True, stdout=subprocess.DEVNULL)


def check_radius() -> None:
    """If all of n samples agree, the lower bound on p is alpha^(1/n) (Clopper and Pearson)."""
    smoothing = Smoothing(np.array([SIGMA]), 64, 0.0, np.array([0.0]))
    bound = CohenCertificate()(np.array([[10, 0]]), np.array([[N, 0]]), smoothing, alpha=ALPHA)
    expected = SIGMA * NormalDist().inv_cdf(ALPHA ** (1 / N))
    assert bound.predict[0] == 0 and isclose(bound.radius[0], expected, rel_tol=1e-6), (bound, expected)


def check_torch(variant: str) -> None:
    """A convolution and its gradient; on the device too, if there is one, and for CUDA that its libraries load."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    gradients = []
    for device in devices:
        image = torch.linspace(0, 1, 64, device=device).reshape(1, 1, 8, 8).requires_grad_()
        torch.nn.functional.conv2d(image, torch.ones(1, 1, 3, 3, device=device)).square().sum().backward()
        gradients.append(image.grad.cpu())
    assert all(torch.allclose(gradients[0], other, rtol=1e-3) for other in gradients)
    if variant == "cuda":
        assert torch.version.cuda and torch.backends.cudnn.version()
    print(f"certsmooth {variant}: torch {torch.__version__} on {', '.join(devices)}")


if __name__ == "__main__":
    variant, *excluded = sys.argv[1:]
    check_packages(excluded)
    check_own()
    check_radius()
    check_torch(variant)
