"""Adapters between ``dci_core`` and ComfyUI. Nothing else in the project knows the host's internals."""
