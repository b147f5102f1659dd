"""Train the classifier on the rendered pictures and measure it on fresh ones. Resumes by default."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from demo.classifier import CLASSIFIER_CHECKPOINT, Classifier, accuracies, degrade, to_tensor  # noqa: E402
from demo.pool import open_pool  # noqa: E402
from demo.precision import fast_matrices  # noqa: E402
from demo.scenes import LABEL_SIZES, labels, sample_scene  # noqa: E402
from demo.schedule import warmup_stable_decay  # noqa: E402
from demo.storage import cache_folder, load_checkpoint, save_checkpoint, training_log  # noqa: E402
from demo.world import render  # noqa: E402

FRESH_SEED = 909  # not the seed of the training pictures


def measure(model: Classifier, count: int) -> dict[str, float]:
    """Accuracy per label on `count` fresh renders that training never saw."""
    rng = np.random.default_rng(FRESH_SEED)
    scenes = [sample_scene(rng) for _ in range(count)]
    pictures = np.stack([render(scene, rng) for scene in scenes])
    model.eval()
    result = accuracies(model, pictures, np.array([labels(scene) for scene in scenes]))
    model.train()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--restart", action="store_true", help="ignore an existing checkpoint")
    arguments = parser.parse_args()

    log, path, pool = training_log("classifier"), cache_folder() / CLASSIFIER_CHECKPOINT, open_pool()
    truth = pool.labels()
    torch.manual_seed(0)
    model = Classifier()
    optimiser = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=0.02)
    step = 0
    if path.exists() and not arguments.restart:
        state = load_checkpoint(path)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]

    def save() -> None:
        save_checkpoint(path, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step})

    log.info("%d parameters, from step %d", sum(p.numel() for p in model.parameters()), step)
    saved_at = time.monotonic()
    while step < arguments.steps:
        rng = np.random.default_rng([3, step])
        index = rng.integers(0, len(pool), arguments.batch)
        pictures = degrade(to_tensor(pool.pictures(index)), rng)
        for group in optimiser.param_groups:
            group["lr"] = arguments.learning_rate * warmup_stable_decay(
                step, arguments.steps, warmup=50, decay_share=0.6
            )
        with fast_matrices():
            scores = {name: score.float() for name, score in model(pictures).items()}
        targets = torch.from_numpy(truth[index])
        loss = torch.stack([F.cross_entropy(scores[name], targets[:, i]) for i, name in enumerate(LABEL_SIZES)]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        if step % 100 == 0:
            log.info("step %d loss %.4f", step, float(loss.detach()))
        if time.monotonic() - saved_at > 120:
            save()
            saved_at = time.monotonic()
    save()
    for name, share in measure(model, 2000).items():
        log.info("fresh renders: %s %.2f %%", name, 100.0 * share)


if __name__ == "__main__":
    main()
