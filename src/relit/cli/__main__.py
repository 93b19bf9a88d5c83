"""``python -m relit.cli``: the same as ``relit``; what the node starts."""

from relit.cli.main import main

main()
