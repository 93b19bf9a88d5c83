"""The HTTP API: ``build`` makes the application, ``ApiServer`` serves it."""
