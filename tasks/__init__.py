"""The worker. ``celery -A tasks worker`` finds the application here."""

from cardtoken import streams
from tasks import ending

if ending.program():
    # Before what follows, which takes a second, and before anything is written.
    ending.take_signals()
    streams.repair()
    streams.ignore_failures()

from tasks.app import app

__all__ = ["app"]
