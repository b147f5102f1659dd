"""Prompts: their words, the pair of both branches, and where their tokens stand."""
