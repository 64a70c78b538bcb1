"""Which versions of other packages are installed."""

from importlib.metadata import version

from packaging.version import Version


def older(package, than):
    """Whether an installed package is older than a version."""
    return Version(version(package)) < Version(than)
