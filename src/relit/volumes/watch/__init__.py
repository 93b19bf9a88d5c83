"""Which paths of agents' homes were touched: fanotify where it is allowed, else inotify, else sweeps."""
