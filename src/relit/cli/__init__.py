"""The command line: parse, ask the server, draw. Everything heavy is imported inside the command that needs it."""

import gc

# Before anything is imported: modules and manifests are made and stay, and looking at them again and again takes a
# tenth of a start.
gc.set_threshold(20_000, 20, 50)
