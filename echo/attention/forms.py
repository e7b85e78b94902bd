"""The forms by their names in a config."""

from echo.attention.adaptive import AdaptiveAttention
from echo.attention.focus import FocusAttention
from echo.attention.hybrid import HybridAttention, ScaledAttention

FORMS: dict[str, type[HybridAttention] | type[AdaptiveAttention]] = {
    "hybrid": HybridAttention,
    "scaled": ScaledAttention,
    "focus": FocusAttention,
    "adaptive": AdaptiveAttention,
}
