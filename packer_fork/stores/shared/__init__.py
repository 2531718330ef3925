"""State and lock on servers that many machines share; what every such store has in common."""
