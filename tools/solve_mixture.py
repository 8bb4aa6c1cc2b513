"""`megatron-mimo mixture solve` of this checkout."""

from checkout import run

if __name__ == "__main__":
    run("mixture", "solve")
