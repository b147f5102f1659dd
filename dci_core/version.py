"""The package's version, written into every concept file."""

VERSION = "0.1.0"
