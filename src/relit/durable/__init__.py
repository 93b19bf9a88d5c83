"""Durable runs: the SDK that workflows are written with, and the engine that drives them."""
