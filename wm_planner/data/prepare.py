"""An image as the planner gets it, on the robot and in training data made of other images."""

from __future__ import annotations

import numpy as np

from wm_planner.errors import ImageSourceError


def prepare(image: np.ndarray, crop: tuple[int, int, int, int] | None, size: int) -> np.ndarray:
    """Crop, cut the centre square, resize.

    Args:
        image: (H, W, 3) uint8.
        crop: (x, y, width, height) in pixels, or None for the whole image.
        size: side of the result in pixels.

    Returns:
        (size, size, 3) uint8, contiguous; pixel for pixel the same when nothing is to be done.

    Raises:
        ImageSourceError: not an image of that kind, or the crop reaches outside of it.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ImageSourceError(f"expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if size <= 0:
        raise ImageSourceError(f"image size must be positive, got {size}")
    height, width = image.shape[:2]
    if crop is not None:
        x, y, crop_width, crop_height = crop
        inside = x >= 0 and y >= 0 and x + crop_width <= width and y + crop_height <= height
        if not inside or crop_width <= 0 or crop_height <= 0:
            raise ImageSourceError(
                f"crop (x, y, width, height) = {tuple(crop)} reaches outside of the "
                f"{width}x{height} image"
            )
        image = image[y : y + crop_height, x : x + crop_width]
        height, width = crop_height, crop_width
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == size:
        return image
    import cv2  # here alone: images of the right size do without it

    # INTER_AREA averages all pixels that fall into one (no aliasing); it cannot enlarge.
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def prepare_views(image: np.ndarray, count: int, size: int) -> np.ndarray:
    """The pictures of `count` cameras side by side, each prepared for itself.

    Args:
        image: (H, count * W, 3) uint8.
        count: cameras.
        size: side of each camera's picture in the result, pixels.

    Returns:
        (size, count * size, 3) uint8.

    Raises:
        ImageSourceError: not an image of that kind.
    """
    if image.ndim != 3 or image.shape[1] % count:
        raise ImageSourceError(f"expected {count} pictures side by side, got {image.shape}")
    views = np.split(image, count, axis=1)
    return np.concatenate([prepare(view, None, size) for view in views], axis=1)
