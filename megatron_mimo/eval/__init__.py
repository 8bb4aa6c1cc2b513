"""What a model learned: bits per byte against classical baselines, and problems with known answers."""
