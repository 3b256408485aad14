"""Opens the image source of a search space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.config.data_rules import NO_FLIP
from schedsearch.data.folder_listing import classes_warning
from schedsearch.data.mirrored import Mirrored
from schedsearch.data.pixels import as_pixels
from schedsearch.data.sources import ImagesInMemory, ImageSource
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Backbone
from schedsearch.settings import DataSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def load_source(
    settings: DataSettings, in_shape: tuple[int, int, int], device: torch.device | str = "cpu"
) -> ImageSource:
    """Open the real images of a search space.

    Args:
        settings: Section ``data``.
        in_shape: Input shape (C, H, W) of the model.
        device: Device that decodes latents; everything else stays on the CPU.

    Raises:
        ConfigError: If the source is missing or damaged, has another shape, or cannot be
            flipped.
    """
    if settings.flip and settings.source in NO_FLIP:
        raise ConfigError(
            f"data.flip: {settings.source} cannot be mirrored, {NO_FLIP[settings.source]}. "
            "Leave it out."
        )
    source = _open_source(settings, in_shape, device)
    return Mirrored(source) if settings.flip else source


def load_reference_source(
    settings: DataSettings, source: ImageSource, in_shape: tuple[int, int, int]
) -> ImageSource:
    """Open the images that FID compares with.

    Args:
        settings: Section ``data``.
        source: The training images, of :func:`load_source`.
        in_shape: Input shape (C, H, W) of the model.

    Returns:
        ``source`` itself, unless the section names other images.

    Raises:
        ConfigError: If these images are missing or damaged, or the source has none.
    """
    if settings.reference_split == "test":
        return _test_images(settings)
    if settings.reference_path is None:
        return source
    try:
        return _beside(settings, source, in_shape)
    except ConfigError as error:  # messages of a source name the training images' key
        raise ConfigError(str(error).replace("data.path", "data.reference_path")) from error


def _test_images(settings: DataSettings) -> ImageSource:
    path = Path(settings.path or "")
    if settings.source == "mnist":
        from schedsearch.data.mnist import load_mnist

        return load_mnist(path, train=False)
    if settings.source == "cifar10":
        from schedsearch.data.cifar10 import load_cifar10

        return load_cifar10(path, train=False)
    raise ConfigError(
        f"data.reference_split test needs test images, but {settings.source} has none. Name "
        "other images in data.reference_path, or leave it out."
    )


def _beside(
    settings: DataSettings, source: ImageSource, in_shape: tuple[int, int, int]
) -> ImageSource:
    """Images of the same kind at another path."""
    from schedsearch.data.latents import LatentSource

    if isinstance(source, LatentSource):  # the autoencoder is large, so there is one
        from schedsearch.data.latent_files import load_shards

        return LatentSource(
            load_shards(Path(str(settings.reference_path)), in_shape), source.decoder
        )
    if settings.source not in ("image_folder", "npz"):
        raise ConfigError(
            f"data.reference_path is for image_folder, npz and latents, but data.source is "
            f"{settings.source}. Leave it out."
        )
    return _open_source(replace(settings, path=settings.reference_path), in_shape, "cpu")


def load_decoder(
    settings: DataSettings | None, device: torch.device | str = "cpu"
) -> Callable[[Tensor], Tensor]:
    """Return the function from samples to pixels, without opening the images.

    Args:
        settings: Section ``data``; None means a model of pixels.
        device: Device that decodes latents.

    Returns:
        A function (n, C, h, w) -> (n, C', H, W) float32 on the CPU, nominally in [-1, 1].

    Raises:
        ConfigError: If ``data.vae`` is needed and missing or damaged.
    """
    if settings is None or settings.source != "latents":
        return as_pixels
    from schedsearch.data.vae import LatentDecoder

    if settings.vae is None:
        raise ConfigError(
            "data.source latents needs data.vae, the folder of a diffusers AutoencoderKL."
        )
    return LatentDecoder.load(Path(settings.vae), device)


def _open_source(
    settings: DataSettings, in_shape: tuple[int, int, int], device: torch.device | str
) -> ImageSource:
    # NOTE: Local imports, so that a source loads only its own libraries.
    if settings.source == "digits":
        from schedsearch.data.digits import load_digits

        return _of_shape(load_digits(), settings, in_shape)
    if settings.path is None:
        raise ConfigError(f"data.source {settings.source} needs data.path.")
    path = Path(settings.path)
    if settings.source == "mnist":
        from schedsearch.data.mnist import load_mnist

        return _of_shape(load_mnist(path), settings, in_shape)
    if settings.source == "cifar10":
        from schedsearch.data.cifar10 import load_cifar10

        return _of_shape(load_cifar10(path), settings, in_shape)
    if settings.source == "image_folder":
        from schedsearch.data.image_folder import ImageFolder

        return ImageFolder.open(path, in_shape, max_damaged=settings.max_damaged)
    if settings.source == "latents":
        from schedsearch.data.latent_files import load_shards
        from schedsearch.data.latents import LatentSource
        from schedsearch.data.vae import LatentDecoder

        shards = load_shards(path, in_shape)
        decoder = load_decoder(settings, device)
        assert isinstance(decoder, LatentDecoder)
        return LatentSource(shards, decoder)
    from schedsearch.data.npz import load_npz

    return load_npz(path, in_shape)


def _of_shape(
    source: ImagesInMemory, settings: DataSettings, in_shape: tuple[int, int, int]
) -> ImagesInMemory:
    """Refuse a data set whose shape differs from the model's input; never resize."""
    shape = tuple(source.images.shape[1:])
    if shape != in_shape:
        raise ConfigError(
            f"data.source {settings.source} has images of shape {shape}, but the backbone wants "
            f"{in_shape}; set in_channels: {shape[0]} and input_size: {shape[1]} (DiT), or "
            f"in_chans: {shape[0]} and img_size: {shape[1]} (U-ViT)."
        )
    return source


def check_enough_images(source: ImageSource, path: str) -> None:
    """Check that there are images enough for a covariance.

    Args:
        source: Images that FID compares with, or that train.
        path: The key and value that name them, for the message.

    Raises:
        ConfigError: If there is only one that can be read, or none.
    """
    damaged = len(getattr(source, "damaged", ()))
    if source.num_images - damaged < 2:
        raise ConfigError(
            f"FID needs at least 2 real images, but {path} gives "
            f"{source.num_images - damaged}. Add images; a good FID needs thousands."
        )


def check_labels_fit(source: ImageSource, backbone: Backbone) -> tuple[str, ...]:
    """Check that the backbone has a label for every class of the data.

    Returns:
        Warnings where the data has fewer classes than the network, or gaps between labels.

    Raises:
        ConfigError: If a conditional backbone gets unlabelled data or too many classes.
    """
    if backbone.num_classes is None:
        return ()
    if source.num_classes is None:
        raise ConfigError(
            f"The backbone has {backbone.num_classes} classes, but the data has no labels. "
            "Add them (one folder per class, or the key labels of an npz), or use an "
            "unconditional backbone."
        )
    if source.num_classes > backbone.num_classes:
        raise ConfigError(
            f"The data has {source.num_classes} classes, but the backbone only "
            f"{backbone.num_classes}."
        )
    found = []
    if source.num_classes < backbone.num_classes:
        names = list(getattr(source, "classes", []))
        found.append(classes_warning(names, source.num_classes, backbone.num_classes))
    labels = getattr(source, "labels", None)
    present = set() if labels is None else set(labels.unique().tolist())
    if present and (gone := [n for n in range(source.num_classes) if n not in present]):
        more = f" (nor {len(gone) - 1} more)" if len(gone) > 1 else ""
        found.append(f"No image has the label {gone[0]}{more}. Check the labels of the data.")
    return tuple(found)
