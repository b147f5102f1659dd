"""Encode the rendered pictures with the trained autoencoder. Resumes: finished chunks are kept."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from demo_world.latents import encode_missing, load_autoencoder  # noqa: E402
from demo_world.pool import CHUNK, open_pool  # noqa: E402
from demo_world.storage import training_log  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000, help=f"pictures to encode, in chunks of {CHUNK}")
    arguments = parser.parse_args()
    log, model, pool = training_log("encode_pool"), load_autoencoder(), open_pool()
    while (number := encode_missing(model, pool, -(-arguments.count // CHUNK))) >= 0:
        log.info("encoded chunk %d", number)


if __name__ == "__main__":
    main()
