"""Text to rigged, game-ready 3D avatars."""

__version__ = "0.1.0"
