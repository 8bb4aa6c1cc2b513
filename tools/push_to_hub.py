"""`megatron-mimo push-to-hub` of this checkout."""

from checkout import run

if __name__ == "__main__":
    run("push-to-hub")
