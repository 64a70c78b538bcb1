"""Trains a segmentation network; `python train.py --help` lists the options."""

from segrobust.cli import train

if __name__ == "__main__":
    train()
