"""What a node and the server say to each other: the Protocol, its values, and its transports."""
