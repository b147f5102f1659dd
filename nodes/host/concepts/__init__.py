"""Concepts on the host: their folder, and how one is applied."""
