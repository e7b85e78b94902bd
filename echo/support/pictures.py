"""Pictures of numbers."""

import io
from base64 import b64encode

import numpy as np
from PIL import Image, ImageOps

# From low to high, each lighter than the one before, so that the order is seen without colours.
LOW, MIDDLE, HIGH = "#0d0a2b", "#b5367a", "#fde8b0"
QUALITY = 65


def coloured(levels: np.ndarray) -> Image.Image:
    """Returns a picture of levels (rows, columns), the first above, from 0, the darkest, to 1."""
    grey = Image.fromarray((255 * levels.clip(0, 1)).astype(np.uint8))
    return ImageOps.colorize(grey, LOW, HIGH, mid=MIDDLE)


def stretched(values: np.ndarray) -> np.ndarray:
    """Returns values as levels: the lowest becomes 0, the highest 1."""
    low, high = values.min(), values.max()
    return (values - low) / max(high - low, 1e-6)


def resized(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns values (rows, columns) as (height, width), as means or repeated."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def heat_map(values: np.ndarray, width: int, height: int) -> str:
    """Draws values (rows, columns), the first row above and the lowest darkest, as a JPEG small
    enough to be embedded, in base64. It has at most `width` and `height` pixels, and fewer if there
    are fewer columns or rows."""
    rows, columns = values.shape
    file = io.BytesIO()
    levels = resized(stretched(values), min(width, columns), min(height, rows))
    coloured(levels).save(file, "JPEG", quality=QUALITY)
    return b64encode(file.getvalue()).decode()
