"""Pictures of numbers, small enough to be embedded."""

import io
from base64 import b64encode

import numpy as np
from PIL import Image, ImageOps

# From low to high, each lighter than the one before, so that the order is seen without colours.
LOW, MIDDLE, HIGH = "#0d0a2b", "#b5367a", "#fde8b0"
QUALITY = 65


def heat_map(values: np.ndarray, width: int, height: int) -> str:
    """Draws an array as a JPEG, in base64.

    Args:
        values: (rows, columns), the first row above; the lowest is darkest.
        width, height: in pixels, at most; fewer if there are fewer columns or rows.
    """
    low, high = values.min(), values.max()
    levels = 255 * (values - low) / max(high - low, 1e-6)
    grey = Image.fromarray(levels.astype(np.uint8))
    grey = grey.resize((min(width, grey.width), min(height, grey.height)), Image.Resampling.BOX)
    file = io.BytesIO()
    ImageOps.colorize(grey, LOW, HIGH, mid=MIDDLE).save(file, "JPEG", quality=QUALITY)
    return b64encode(file.getvalue()).decode()
