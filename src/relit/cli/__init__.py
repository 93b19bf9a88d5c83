"""The command line: parse, ask the server, draw. Everything heavy is imported inside the command that needs it."""
