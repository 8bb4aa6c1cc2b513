"""The mixture solver: from what a corpus holds and what each stage asks for to weights and epochs by source."""
