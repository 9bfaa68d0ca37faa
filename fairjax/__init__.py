"""Fair image generation and robust classification in JAX."""

__version__ = "0.1.0"
