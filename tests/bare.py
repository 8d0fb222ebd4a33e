"""What the package does where only its core dependencies are: `make wheel` runs this in environments that hold no more.

It trains and certifies, and asks for what needs an extra, which must say so in one line.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

import certsmooth
from certsmooth import (
    MACER,
    BasePGD,
    DataDependentSigma,
    DualSmoothedClassifier,
    FixedSigma,
    Memory,
    NearestNeighbourSigma,
    Recipe,
    SemiElasticCertificate,
    SmoothedClassifier,
    StopAtRadii,
    certify_counts,
    train,
)
from certsmooth._internal.extras import EXTRAS
from certsmooth.science.models import resnet18_cifar

OF_TORCH = {"jinja2"}
FEW = {"n0": 20, "n": 400, "alpha": 0.01, "seed": 0}


def main() -> None:
    """Check all of it."""
    for library in EXTRAS.keys() - OF_TORCH:
        assert find_spec(library) is None, f"{library} is there; must not be, as this is about what goes without"
    place = Path(certsmooth.__file__).parent
    stated = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
    assert version("certsmooth") == stated, f"{version('certsmooth')} at {place}; must be {stated}"
    torch.manual_seed(0)
    images = torch.rand(60, 1, 4, 4).mul(255).round() / 255
    labels = (images[:, 0, 0, 0] > 0.5).long()
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    check_core(network, images, labels)
    check_extras(network, images, labels)
    print(f"{place}, version {stated}, Python {sys.version.split()[0]}: certifies, and says what needs an extra")


def check_core(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Train with two objectives; certify with each kind of sigma, and stored counts."""
    recipe = Recipe(epochs=2, batch_size=20, learning_rate=0.1)
    for objective in (None, MACER(samples=2)):
        assert len(train(network, (images, labels), objective=objective, sigma=0.25, recipe=recipe, seed=0).log) == 2
    plain = SmoothedClassifier(network, 2, 0.25)
    near = NearestNeighbourSigma(sigma=0.25, rate=0.01).fit(images)
    for smoothed in (
        plain,
        SmoothedClassifier(network, 2, near, certificate=SemiElasticCertificate()),
        SmoothedClassifier(network, 2, DataDependentSigma(sigma=0.25, iterations=2), memory=Memory()),
        DualSmoothedClassifier(plain, [plain, SmoothedClassifier(network, 2, FixedSigma(0.5))]),
    ):
        found = smoothed.certify(images[:4], stop=StopAtRadii([0, 0.1]), **FEW)
        assert len(found) == 4 and found["radius"].ge(0).all()
    counts = plain.sample(images[:4], n0=20, n=400, seed=0)
    again = certify_counts(counts.selection, counts.estimation, 0.25, alpha=0.01, dimension=16, step=1 / 255)
    assert (again["radius"] == plain.certify(images[:4], **FEW)["radius"]).all()


def check_extras(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Ask for what needs an extra, in Python and on the command line."""
    noise = torch.zeros(1, *images.shape)
    needing: dict[str, Callable[[], object]] = {
        "attacks": lambda: BasePGD(epsilon=0.1, steps=2)(network, images, labels, noise),
        "data": lambda: resnet18_cifar.build((3, 32, 32), 10),
    }
    for extra, call in needing.items():
        try:
            call()
        except ImportError as error:
            said = str(error)
        assert said.endswith(f'pip install "certsmooth[{extra}]"') and "\n" not in said, said
    program = [sys.executable, "-m", "certsmooth"]
    assert subprocess.run([*program, "--version"], check=True, capture_output=True).stdout
    asked = [*program, "certify-images", "model.safetensors", "image.png", "--sigma", "0.25"]
    done = subprocess.run(asked, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert 'pip install "certsmooth[' in done.stderr, done.stderr


if __name__ == "__main__":
    main()
