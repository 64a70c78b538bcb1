"""Attacks a trained segmentation network; `python evaluate.py --help` lists the options."""

from segrobust.cli import evaluate

if __name__ == "__main__":
    evaluate()
