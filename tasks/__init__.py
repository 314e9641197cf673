"""The worker. ``celery -A tasks worker`` finds the application here."""

from tasks import ending

if ending.program():
    # Before what follows, which takes a second.
    ending.take_signals()

from tasks.app import app

__all__ = ["app"]
