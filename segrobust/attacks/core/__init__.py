"""What all attacks are made of: problem, criterion, oracle, loop, tracker, losses. Certificates may import it too."""
