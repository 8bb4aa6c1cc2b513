"""Quality tagging: what a page is about and what it is worth, scored by small models instead of rules."""
