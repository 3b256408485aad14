"""Opens the source that a search space names."""

from __future__ import annotations

from pathlib import Path

from schedsearch.data.sources import ImageSource
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Backbone
from schedsearch.settings import DataSettings


def load_source(settings: DataSettings, in_shape: tuple[int, int, int]) -> ImageSource:
    """The real images of a search space, in the shape (C, H, W) that the model wants.

    Raises:
        ConfigError: If the source is missing, damaged or of another shape.
    """
    if settings.source == "digits":
        from schedsearch.data.digits import load_digits

        digits = load_digits()
        shape = tuple(digits.images.shape[1:])
        if shape != in_shape:
            raise ConfigError(
                f"data.source digits has images of shape {shape}, but the backbone wants "
                f"{in_shape}; set in_channels: {shape[0]} and input_size: {shape[1]}."
            )
        return digits
    if settings.path is None:
        raise ConfigError(f"data.source {settings.source} needs data.path.")
    path = Path(settings.path)
    if settings.source == "image_folder":
        from schedsearch.data.image_folder import ImageFolder

        return ImageFolder(path, in_shape)
    from schedsearch.data.npz import load_npz

    return load_npz(path, in_shape)


def check_labels_fit(source: ImageSource, backbone: Backbone) -> None:
    """Refuse data whose classes the backbone does not have.

    Raises:
        ConfigError: If a conditional backbone gets unlabelled data, or too many classes.
    """
    if backbone.num_classes is None:
        return
    if source.num_classes is None:
        raise ConfigError(
            f"The backbone has {backbone.num_classes} classes, but the data has no labels. "
            "Put the images into one folder per class, or use an unconditional backbone."
        )
    if source.num_classes > backbone.num_classes:
        raise ConfigError(
            f"The data has {source.num_classes} classes, but the backbone only "
            f"{backbone.num_classes}."
        )
