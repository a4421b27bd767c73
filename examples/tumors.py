"""Write tumors.csv: scikit-learn's 569 measured breast tumors, with some wrong diagnoses among the training rows.

Five clerks copied the diagnoses. Four of them err in one case out of fifty, Dan in three out of ten. What was right is kept in the
column "truth", so that whoever looks for errors can check what they found.

python examples/tumors.py
"""

import csv
import random

from sklearn.datasets import load_breast_cancer

data = load_breast_cancer()
draw = random.Random(0)
with open("tumors.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["id", "split", "clerk", *data.feature_names, "diagnosis", "truth"])
    for row, (measurements, label) in enumerate(zip(data.data, data.target, strict=True)):
        split = draw.choices(["train", "dev", "test"], [6, 2, 2])[0]
        clerk = draw.choice(["Ada", "Ben", "Cleo", "Dan", "Eve"])
        truth, other = data.target_names[label], data.target_names[1 - label]
        wrong = split == "train" and draw.random() < (0.3 if clerk == "Dan" else 0.02)
        table.writerow([f"tumor-{row}", split, clerk, *measurements, other if wrong else truth, truth])
