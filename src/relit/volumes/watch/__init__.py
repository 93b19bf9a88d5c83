"""Which paths of agents' homes were touched: fanotify where it is allowed, else inotify, else sweeps.

What no event tells, so that only a sweep finds it: a write through another name of the file outside of the home, or
through a descriptor whose own name was removed while another one is left; a store through a mapping that is gone
while its file stays open (the event comes when it is closed).
"""
