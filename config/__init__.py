"""Settings of the deployable worker: the environment, Celery's own configuration, the queues."""
