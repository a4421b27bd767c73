"""S3 of Kobayashi et al. (2020) for pictures: wrong predictions of a VGG on CIFAR-10, and the pictures that explain them.

    python -m benchmarks.paper.lookalikes [--seeds 3] [--errors 200] [--top 5] [--model vgg:16,32,64,256] [--train 10000]
                                          [--epochs 20]

The networks of ``benchmarks.paper.pictures`` with turn-over dropout in the hidden layer. Of each seed's run the first --errors
wrong predictions of test are explained: influence on the loss of the class that was *predicted*, so that what is positive
helped the wrong answer. The --top most helpful training pictures are compared with chance, the mean over all training pictures of
the same labels, in

    colors    overlap of histograms of 64 colors, 0 to 1: the same colors, wherever they are
    layout    correlation of the pictures averaged over 4 × 4 pixels: bright and dark, and colors, in the same places
    features  cosine of the pooled features of another network (a ResNet-20 trained on all of CIFAR-10), centered

Prints means over errors (± standard deviation over seeds), and how many of the helpful pictures have the predicted label;
beside them random pictures, and those of the predicted label that are nearest in layout, which ask no model. Draws
build/lookalikes.png: the first six errors of seed 0, whatever they are, with what helped and hurt the wrong answer most,
by kronecker. A finished seed and method is a line of results/paper_lookalikes.jsonl.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.paper.explanations import against_chance
from benchmarks.paper.explanations import spread as written
from benchmarks.paper.material import RESULTS, Results, data_file
from benchmarks.paper.pictures import PLACES, cifar
from PIL import Image, ImageDraw, ImageFont

import whence
from whence.estimators import METHODS as ESTIMATORS
from whence.subnetworks import probabilities

METHODS = ("turnover", "first_order", "kernel", "kronecker")
RANDOM, NEAREST = "random pictures", "nearest layout, no model"
FIGURE = (
    Path(__file__).resolve().parents[2] / "build" / "lookalikes.png"
)  # not in the repository: the pictures are not ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--errors", type=int, default=200)
    parser.add_argument("--top", type=int, default=5)
    parser.add_argument("--model", default="vgg:16,32,64,256")
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, rows = Results(RESULTS / "paper_lookalikes.jsonl"), []
    for seed in range(arguments.seeds):
        errors: list[Errors] = []  # made when a method is not in the results yet
        for method in (RANDOM, *METHODS, NEAREST):
            settings = {**vars(arguments), "method": method, "seed": seed}
            del settings["seeds"]
            if method in ESTIMATORS:
                settings["version"] = ESTIMATORS[method].version

            def work(method: str = method, seed: int = seed, errors: list[Errors] = errors) -> dict[str, Any]:
                if not errors:
                    errors.append(Errors(arguments, seed))
                return errors[0].explained(method)

            rows.append(results.once(settings, work))
        if errors and seed == 0:
            draw(errors[0])
            print(FIGURE)
    table(rows)


class Errors:
    """The wrong predictions of one run, and how like them the training pictures are."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        self.seed, self.top = seed, arguments.top
        model, data = whence.prepare(cifar(arguments.train), arguments.model, masked=PLACES["fc"], seed=seed)
        self.run = whence.fit(model, data, seed=seed, epochs=arguments.epochs, augment="crop+flip", autocast="bfloat16",
                              device="cpu", exposure_limit=1)  # fmt: skip
        test = self.run.dataset("test")
        said = probabilities(self.run, test)
        wrong = np.flatnonzero(said.argmax(1) != test.targets)
        self.accuracy, wrong = 1 - len(wrong) / len(test), wrong[: arguments.errors]
        self.true, self.said = test.targets[wrong], said[wrong]
        self.targets = replace(test.select(wrong), targets=self.said.argmax(1))
        train, errors = (data.inputs.gather(np.arange(len(data))) for data in (self.run.train, self.targets))
        shapes = layout(errors), layout(train)
        deep = features(errors), features(train)
        center = deep[1].mean(0)
        colored = colors(errors), colors(train)
        self.alike = {
            "colors": np.stack([np.minimum(one, colored[1]).sum(1) for one in colored[0]]),
            "layout": shapes[0] @ shapes[1].T,
            "features": unit(deep[0] - center) @ unit(deep[1] - center).T,
        }

    def explained(self, method: str) -> dict[str, Any]:
        """Means over the errors."""
        labels, predicted = self.run.train.targets, self.targets.targets
        if method == NEAREST:
            same = np.where(labels == predicted[:, None], self.alike["layout"], -np.inf)
            best = np.argsort(-same, axis=1)[:, : self.top]  # (M, k)
        elif method == RANDOM:
            best = np.random.default_rng(self.seed).integers(len(labels), size=(len(predicted), self.top))
        else:
            best = whence.influence(self.run, self.targets, method=method).top(self.top).rows
        return {"accuracy": self.accuracy, "count": len(best), **against_chance(best, self.alike, labels, predicted)}


def colors(pictures: torch.Tensor) -> np.ndarray:
    """The shares of 64 colors in pictures [B, 3, H, W]: float [B, 64]."""
    levels = (pictures * 3.999).long()  # (B, 3, H, W)
    kind = (levels[:, 0] * 16 + levels[:, 1] * 4 + levels[:, 2]).flatten(1)
    return F.one_hot(kind, 64).float().mean(1).numpy()


def layout(pictures: torch.Tensor) -> np.ndarray:
    """Pictures in coarse, with mean 0 and length 1: float [B, 192]."""
    coarse = F.avg_pool2d(pictures, 4).flatten(1)
    return F.normalize(coarse - coarse.mean(1, keepdim=True)).numpy()


def features(pictures: torch.Tensor) -> np.ndarray:
    """Pooled features of a ResNet-20 (He et al. 2016, option A) that others trained: float [B, 64]."""
    with np.load(data_file("resnet20_cifar10_weights.npz")) as file:
        weights = {name: torch.from_numpy(file[name]) for name in file.files}
    scale = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]

    def normed(maps: torch.Tensor, convolution: str, norm: str, stride: int = 1) -> torch.Tensor:
        maps = F.conv2d(maps, weights[f"{convolution}.weight"], stride=stride, padding=1)
        given = (weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(maps, *given)

    found = []
    for batch in pictures.split(500):
        maps = F.relu(normed((batch - scale[0]) / scale[1], "conv1", "bn1"))
        for stage in (1, 2, 3):
            for block in (0, 1, 2):
                stride, at = (2 if stage > 1 and block == 0 else 1), f"layer{stage}.{block}"
                change = normed(F.relu(normed(maps, f"{at}.conv1", f"{at}.bn1", stride)), f"{at}.conv2", f"{at}.bn2")
                if stride == 2:  # every other position, and zeros as further channels
                    quarter = maps.shape[1] // 2
                    maps = F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
                maps = F.relu(change + maps)
        found.append(maps.mean((2, 3)))
    return torch.cat(found).numpy()


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [B, D] at length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw(errors: Errors, count: int = 6) -> None:
    """The first errors, each with what helped and hurt its wrong answer most."""
    names, train = errors.run.task.classes, errors.run.train
    scores = whence.influence(errors.run, errors.targets.select(np.arange(count)), method="kronecker")
    size, gap, left = 80, 6, 200
    width = left + 2 * 5 * (size + gap) + size + 5 * gap
    sheet = Image.new("RGB", (width, count * (size + 34) + 26), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)

    def place(pictures: np.ndarray, row: int, x: int, y: int, label: int, color: str) -> None:
        tile = Image.fromarray(pictures[row]).resize((size, size), Image.Resampling.BICUBIC)
        sheet.paste(tile, (x, y))
        pen.text((x, y + size + 2), names[label], fill=color, font=font)

    helped_at, hurt_at = left + size // 4, left + 5 * (size + gap) + size // 2
    pen.text((helped_at, 4), "helped the wrong answer most", fill="black", font=font)
    pen.text((hurt_at, 4), "hurt it most", fill="black", font=font)
    best, worst = scores.top(5).rows, scores.top(5, harmful=True).rows
    for number in range(count):
        y, taken = 24 + number * (size + 34), int(errors.targets.targets[number])
        place(errors.targets.images, number, 8, y, int(errors.true[number]), "black")
        pen.text((8 + size + gap, y + 16), f"taken for\n{names[taken]}\n(p {errors.said[number].max():.2f})", fill="#a03000",
                 font=font)  # fmt: skip
        for chosen, x in ((best, helped_at), (worst, hurt_at)):
            for rank, row in enumerate(chosen[number]):
                label = int(train.targets[row])
                place(train.images, row, x + rank * (size + gap), y, label, "#a03000" if label == taken else "black")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(FIGURE, optimize=True)


def table(rows: list[dict[str, Any]]) -> None:
    """Means over seeds, in Markdown."""
    accuracy = [row["accuracy"] for row in rows if row["method"] == METHODS[0]]
    print(f"CIFAR-10, {rows[0]['model']}: {rows[0]['count']} wrong predictions of each of {len(accuracy)} seeds (accuracy "
          f"{np.mean(accuracy):.3f}), their {rows[0]['top']} most helpful training pictures")  # fmt: skip
    measures = ("colors", "layout", "features")
    print("| method | " + " | ".join(f"{name} | chance" for name in measures) + " | of the predicted label |")
    print("| --- " * 8 + "|")
    for method in (RANDOM, *METHODS, NEAREST):
        mine = [row for row in rows if row["method"] == method]
        cells = [written([row[name][key] for row in mine], 3) for name in measures for key in ("helpful", "chance")]
        print(
            f"| {method} | " + " | ".join([*cells, written([row["of the predicted label"] for row in mine], 2)]) + " |"
        )


if __name__ == "__main__":
    main()
