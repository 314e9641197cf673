"""Variables that Celery would read by itself, and for which this service has settings of its own.

On shared hosts such variables are another application's. Celery lets them win over an application's settings.
"""

from collections.abc import MutableMapping
from typing import Final

#: Variables that Celery reads although the application has set something else.
_TAKEN: Final = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
    "CELERY_LOADER",
    "CELERY_CONFIG_MODULE",
)
#: Prefixes of variables for Celery's command line, which are allowed, and of those that it sets itself.
_OPTIONS: Final = (
    *("CELERY_WORKER_", "CELERY_FLOWER_", "CELERY_INSPECT_", "CELERY_CONTROL_", "CELERY_EVENTS_", "CELERY_STATUS_"),
    *("CELERY_LOG_", "CELERY_APP", "CELERY_NO_COLOR", "CELERY_QUIET", "CELERY_WORKDIR", "CELERY_SKIP_CHECKS"),
    *("CELERY_RDB", "CELERY_TRACE_APP", "CELERY_BENCH", "CELERY_CUSTOM_WORKER_POOL"),
)


def forget(environment: MutableMapping[str, str]) -> list[str]:
    """Remove from ``environment`` what would change where messages go. Return the names that are ignored."""
    ignored = sorted(
        name for name in environment if name.startswith(("CELERY_", "CELERYD_")) and not name.startswith(_OPTIONS)
    )
    for name in _TAKEN:
        environment.pop(name, None)
    return ignored
