"""The ComfyUI side: thin nodes here, adapters to the host in ``host``."""
