"""The tests on each Python and each Redis that people run: ``make matrix``."""
