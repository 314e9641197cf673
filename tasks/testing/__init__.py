"""Fakes of the worker's ports, for tests in memory: circuits, rate limits, a provider, the clock."""
