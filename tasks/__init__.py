"""The worker. ``celery -A tasks worker`` finds the application here."""

from tasks.app import app

__all__ = ["app"]
