"""Drivers start instances: as plain processes here; sandboxes, containers and pods have drivers of their own."""
