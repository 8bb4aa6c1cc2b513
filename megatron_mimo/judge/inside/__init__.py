"""What runs inside the sandbox: standard library alone, as little of it as possible, since every solution pays for it."""
