"""`megatron-mimo mixture check` of this checkout."""

from checkout import run

if __name__ == "__main__":
    run("mixture", "check")
