"""The worst perturbations known of a network, each kept as a witness that one forward pass judges again."""
