"""The study: does the method do on a trained model what the paper says? See run.py."""

from __future__ import annotations

from workbench.pack import load_pack

load_pack()
