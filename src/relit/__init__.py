"""relit keeps AI agents running for weeks."""
