"""``python -m cardtoken``: the same as ``cardtoken``."""

from cardtoken.cli import main

main()
