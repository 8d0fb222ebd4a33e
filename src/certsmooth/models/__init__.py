"""Architectures, one file each, and the base classifier that wraps them.

A member module defines ``build(image_shape: tuple[int, ...], num_classes: int) -> nn.Module``: images in, logits out,
no normalisation layer and no softmax inside.
"""
