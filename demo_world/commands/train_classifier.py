"""Train the classifier on the rendered pictures and measure it on fresh ones. Resumes by default."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from demo_world.classifier import CLASSIFIER_CHECKPOINT, NAMES, Classifier, accuracies, degrade, to_tensor
from demo_world.concepts import CONCEPTS, render_concept
from demo_world.pool import open_pool
from demo_world.precision import fast_matrices
from demo_world.scenes import labels, sample_scene
from demo_world.schedule import warmup_stable_decay
from demo_world.storage import cache_folder, load_checkpoint, save_checkpoint, training_log
from demo_world.vocabulary import NOUNS
from demo_world.world import render

FRESH_SEED = 909  # not the seed of the training pictures
CONCEPT_SHARE = 0.3  # of each batch, drawn afresh


def draw_concepts(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures of random custom concepts [count, h, w, 3] and their labels [count, 5]."""
    pictures, truths = [], []
    for number in rng.integers(0, len(CONCEPTS), count):
        concept = CONCEPTS[number]
        scene = sample_scene(rng)
        while scene.second_noun == concept.noun:
            scene = sample_scene(rng)
        scene = replace(scene, noun=concept.noun)
        pictures.append(render_concept(concept, scene, rng))
        truths.append((len(NOUNS) + number, *labels(scene)[1:]))
    return np.stack(pictures), np.array(truths, dtype=np.int64)


def measure(model: Classifier, count: int) -> dict[str, float]:
    """Accuracy per label on `count` fresh pictures of nouns and as many of concepts, which training never saw."""
    rng = np.random.default_rng(FRESH_SEED)
    scenes = [sample_scene(rng) for _ in range(count)]
    known = np.stack([render(scene, rng) for scene in scenes]), np.array([labels(scene) for scene in scenes])
    model.eval()
    result = {}
    for kind, (pictures, truth) in {"nouns": known, "concepts": draw_concepts(count, rng)}.items():
        for name, share in accuracies(model, pictures, truth).items():
            result[f"{kind}, {name}"] = share
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
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=0.02)
    step = 0
    if path.exists() and not arguments.restart:
        state = load_checkpoint(path)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimiser"])
        step = state["step"]

    def save() -> None:
        save_checkpoint(path, {"model": model.state_dict(), "optimiser": optimizer.state_dict(), "step": step})

    log.info("%d parameters, from step %d", sum(p.numel() for p in model.parameters()), step)
    saved_at = time.monotonic()
    while step < arguments.steps:
        rng = np.random.default_rng([3, step])
        new, new_truth = draw_concepts(round(CONCEPT_SHARE * arguments.batch), rng)
        index = rng.integers(0, len(pool), arguments.batch - len(new))
        pictures = degrade(to_tensor(np.concatenate([pool.pictures(index), new])), rng)
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * warmup_stable_decay(
                step, arguments.steps, warmup=50, decay_share=0.6
            )
        with fast_matrices():
            scores = {name: score.float() for name, score in model(pictures).items()}
        targets = torch.from_numpy(np.concatenate([truth[index], new_truth]))
        loss = torch.stack([F.cross_entropy(scores[name], targets[:, i]) for i, name in enumerate(NAMES)]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            log.info("step %d loss %.4f", step, float(loss.detach()))
        if time.monotonic() - saved_at > 120:
            save()
            saved_at = time.monotonic()
    save()
    for name, share in measure(model, 1000).items():
        log.info("fresh renders: %s %.2f %%", name, 100.0 * share)


if __name__ == "__main__":
    main()
