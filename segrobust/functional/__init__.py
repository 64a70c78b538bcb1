"""Pure tensor functions that attacks are written with: norms, projections, margins, penalties, proximal operators."""
