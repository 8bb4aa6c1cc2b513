"""Rule-based accuracy rewards of the report's RL: mathematics, code by test difficulty, and the router between them."""
