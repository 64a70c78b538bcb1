"""The files of a run: manifest, records, adversarial images, failures."""
