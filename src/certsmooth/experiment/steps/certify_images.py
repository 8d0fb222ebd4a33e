"""Certify image files by a checkpoint alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from tabulate import tabulate
from torch import Tensor

from certsmooth._internal.checks import check_alpha, check_integer, check_number, check_samples
from certsmooth.artefacts.trained import TrainedClassifier, load_classifier
from certsmooth.errors import ConfigError, DataError
from certsmooth.experiment.steps.pictures import channels_last
from certsmooth.report.figures.certified_image import certified_image_figure
from certsmooth.report.figures.panels import write_figure
from certsmooth.science.certificates import check_can_certify
from certsmooth.science.certify import certify_counts
from certsmooth.science.classifier import SmoothedClassifier
from certsmooth.science.datasets._files import decode, read_file

if TYPE_CHECKING:
    import pandas as pd

    from certsmooth.science.sampling.counts import Counts

_SUFFIXES = (".png", ".jpg", ".jpeg")


def certify_images(
    checkpoint: Path,
    places: Sequence[Path],
    *,
    sigma: float,
    samples: tuple[int, int],
    alpha: float,
    seed: int,
    size: int | None,
    trusted: Collection[str],
    output: Path | None,
    device: torch.device,
) -> str:
    """Certify each image in l2, and return a table in Markdown; the noise is exact on the grid of 8-bit pixels.

    Args:
        checkpoint: of certsmooth, for images in [0, 1].
        places: PNG or JPEG files, or folders of such.
        sigma: of the noise, in pixel coordinates [0, 1].
        samples: n0 and n.
        alpha: each certificate is wrong with at most this probability.
        seed: of the noise.
        size: what the shorter side of each image is resized to, in 8 bits, before the middle of the network's size is
            cut out; None for images of that size.
        trusted: packages whose code may run.
        output: a folder for a picture of each image, ``0.svg``, ``0.png``, ...; None for none.
        device: where to compute.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        DataError: there are no images, or one is damaged or of another size.
        ConfigError: an option is wrong, or the network takes no images.
    """
    n0, n = check_samples("--n0", samples[0]), check_samples("--n", samples[1])
    sigma, alpha = check_number("--sigma", sigma, above=0), check_alpha(alpha)
    trained = load_classifier(checkpoint, device=device, trusted=trusted)
    files = _files(places)
    stored = torch.from_numpy(np.stack([_read(file, _shape(checkpoint, trained), size) for file in files]))
    images = stored.to(torch.float32) / 255
    smoothed = SmoothedClassifier(trained.model, trained.num_classes, sigma, pixel_range=(0.0, 1.0))
    check_can_certify(smoothed.certificate, n=n, alpha=alpha)
    counts = smoothed.sample(images, n0=n0, n=n, seed=seed, progress=True)
    found = certify_counts(
        counts.selection,
        counts.estimation,
        counts.sigma,
        alpha=alpha,
        certificate=smoothed.certificate,
        semi_elasticity=smoothed.sigma.semi_elasticity,
        constant_within=counts.constant_within,
        dimension=images[0].numel(),
        step=1 / 255,
    )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(files):
            _draw(output, number, file, images[number], counts, found, sigma=sigma, seed=seed)
    return _table(checkpoint, files, found, f"sigma {sigma:g}, n0 {n0}, n {n}, alpha {alpha:g}, seed {seed}")


def _files(places: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for place in places:
        inside = sorted(each for each in place.iterdir() if each.suffix.lower() in _SUFFIXES) if place.is_dir() else []
        if place.is_dir() and not inside:
            raise DataError(f"{place}: no images; must hold files {', '.join(_SUFFIXES)}")
        found += inside or [place]
    return found


def _shape(checkpoint: Path, trained: TrainedClassifier) -> tuple[int, int, int]:
    shape = trained.header.model.image_shape
    if trained.pixel_range != (0.0, 1.0) or len(shape) != 3 or shape[0] not in (1, 3):
        found = f"shape {shape}, pixels in {trained.pixel_range}"
        raise ConfigError(f"{checkpoint}: takes {found}; must take images (1 or 3, h, w) in (0.0, 1.0)")
    return shape


def _read(file: Path, shape: tuple[int, int, int], size: int | None) -> UInt8[np.ndarray, "c h w"]:
    channels, height, width = shape
    image = decode(read_file(file), where=file).convert("L" if channels == 1 else "RGB")
    if size is not None:
        image = _cut(image, check_integer("--size", size, minimum=max(height, width)), height, width)
    if image.size != (width, height):
        raise DataError(f"{file}: {image.size[0]}x{image.size[1]}; must be {width}x{height}, or say --size")
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.moveaxis(pixels, -1, 0)


def _cut(image: Image.Image, size: int, height: int, width: int) -> Image.Image:
    """Return the middle of an image, resized by what makes its shorter side of a size."""
    scale = min(image.size) / size
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    box = (left, top, left + width * scale, top + height * scale)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _draw(
    folder: Path,
    number: int,
    file: Path,
    image: Tensor,
    counts: Counts,
    found: pd.DataFrame,
    *,
    sigma: float,
    seed: int,
) -> None:
    clean = image.numpy().astype(np.float64)
    noise = np.random.default_rng([seed, number]).standard_normal(clean.shape)
    noisy = np.round((clean + sigma * noise) * 255) / 255
    draw = partial(
        certified_image_figure,
        channels_last(clean),
        channels_last(noisy),
        counts.estimation[number],
        name=_printable(file.name).replace("$", r"\$"),
        said=_said(found.iloc[number].to_dict()),
        sigma=sigma,
    )
    write_figure(draw, folder, name=str(number))


def _said(row: dict[Any, Any]) -> str:
    if row["predict"] == -1:
        return "abstains"
    return f"class {row['predict']} within l2 radius {_down(row['radius'], 3)}"


def _table(checkpoint: Path, files: Sequence[Path], found: pd.DataFrame, setting: str) -> str:
    rows = [
        [
            number,
            _printable(str(file)).replace("|", r"\|"),
            "abstains" if row["predict"] == -1 else row["predict"],
            _down(row["radius"], 3),
            _down(row["p_a_lower"], 4),
            row["guarantee"],
        ]
        for number, (file, row) in enumerate(zip(files, found.to_dict("records"), strict=True))
    ]
    headers = ["no.", "image", "class", "l2 radius", "p_A at least", "guarantee"]
    table = tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
    return f"{_printable(str(checkpoint))}, {setting}; radii in pixels from 0 to 1.\n\n{table}\n"


def _down(bound: float, digits: int) -> str:
    """Return a lower bound with so many decimals, rounded down: rounded up, it would say more than is certified."""
    return str(Decimal(bound).quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR))


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
