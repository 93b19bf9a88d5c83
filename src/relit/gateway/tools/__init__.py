"""Tools that agents reach through the gateway: one MCP endpoint, whatever a tool is."""
