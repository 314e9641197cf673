"""Both card-token providers over real HTTP, for the demo, the tests and the benchmarks.

Start it with ``python -m simulator``. What a lookup gets is written in the reference that is looked up; the README
beside this file lists the references, the accounts and the control endpoints.
"""
