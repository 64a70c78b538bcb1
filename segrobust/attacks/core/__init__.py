"""The parts of all attacks: problem, criterion, oracle, loop, tracker, losses. Certificates may import them too."""
