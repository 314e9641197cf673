"""Everything on one machine: a Redis-compatible server and child processes that end with their parent."""
