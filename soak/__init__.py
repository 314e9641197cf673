"""Runs of tens of thousands of lookups that do to the service what production will: `python -m soak --help`."""
