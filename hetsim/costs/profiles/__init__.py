"""Profiles that other tools wrote, read into cost tables. Reading one runs no code."""
