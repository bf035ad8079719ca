"""Training and evaluation from masks alone. May import trl, peft, accelerate, datasets, pyarrow, scipy, matplotlib."""
