"""The store on SQL: shared operations in Python, statements in each dialect's ``queries/``."""
