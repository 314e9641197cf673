"""Celery's settings, under Celery's own names. What depends on the environment is added by ``tasks.celery``."""

# JSON only, in both directions. The second type is that of messages from the worker's own intake.
accept_content = ["json", "application/x-lookup+json"]
task_serializer = "json"
result_serializer = "json"
enable_utc = True
timezone = "UTC"

# Waiting for providers is what a worker does all day: threads wait cheaply, and share connections and access tokens.
worker_pool = "threads"
# Messages that run at once, -c. Most of a message's time is its provider's. Calls have threads of their own, as many as
# PROVIDER_CONCURRENCY says for each provider, so a list of 100 is no slower for being one message.
worker_concurrency = 64
# One message in hand for each thread, and none that waits in memory: a backlog of any length stays in Redis. So at most
# worker_concurrency * MAX_MESSAGE_BYTES of messages are in memory, and a hundredth of that as a rule.
worker_prefetch_multiplier = 1

# A message is acknowledged once its results are published, however its task ends.
task_acks_late = True
task_acks_on_failure_or_timeout = False
# Results go to the result queues. Celery's own result backend would only be a second, unread copy.
task_ignore_result = True
result_backend = None
task_store_errors_even_if_ignored = False

# A queue in -Q that is not declared is a mistake.
task_create_missing_queues = False
# Flower and `celery events` see every task. The producer's own event would hold its arguments.
worker_send_task_events = True
task_send_sent_event = False

# Names of our own: another Celery application on the same database neither sees these workers nor commands them.
# `celery -A tasks control …`, `celery -A tasks events` and Flower use them by themselves.
control_exchange = "cardtoken"
event_exchange = "cardtoken.events"
event_queue_prefix = "cardtoken.events"
worker_consumer = "tasks.broker.consumer:Consumer"

# A worker that starts before Redis does waits for it.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# A worker reconnects where the server returns an error, while it is not the primary or lacks replicas.
broker_channel_error_retry = True
# Running tasks continue when the connection is lost: results are fenced against a second publication.
worker_cancel_long_running_tasks_on_connection_loss = False
# Messages in hand take up room by themselves, on every connection.
worker_enable_prefetch_count_reduction = False

# Celery sets up the log, in our format (`tasks.celery`), and does not redirect standard output.
worker_hijack_root_logger = True
worker_redirect_stdouts = False
worker_proc_alive_timeout = 10.0
