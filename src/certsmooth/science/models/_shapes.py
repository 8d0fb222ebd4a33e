"""The check of image shapes that architectures share."""

from __future__ import annotations

from certsmooth.errors import ConfigError


def check_images(
    architecture: str,
    image_shape: tuple[int, ...],
    *,
    smallest: int,
    channels: int | None = None,
    largest: int | None = None,
) -> None:
    """Raise ConfigError unless an architecture takes images of a shape.

    Args:
        architecture: its name, for the message.
        image_shape: shape of one image.
        smallest: least height and width that it takes, in pixels.
        channels: number of channels that it takes; None for any.
        largest: greatest height and width that it takes; None for no limit.
    """
    if (
        len(image_shape) == 3
        and channels in (None, image_shape[0])
        and all(smallest <= side and (largest is None or side <= largest) for side in image_shape[1:])
    ):
        return
    size = f"of {smallest}x{smallest}" if largest == smallest else f"of at least {smallest}x{smallest}"
    first = "c" if channels is None else channels
    raise ConfigError(f"image_shape: {architecture} takes ({first}, h, w) images {size} pixels; found {image_shape}")
