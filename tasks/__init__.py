"""The worker: Celery tasks that look up card tokens. ``celery -A tasks`` finds the application in ``tasks.celery``."""
