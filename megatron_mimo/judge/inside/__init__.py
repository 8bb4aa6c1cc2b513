"""What runs inside the sandbox: standard library alone, little of it, since every solution pays for it."""
