"""What workflows do in the world: the attempts of runs, planning, recording, upkeep."""
