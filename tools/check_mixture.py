"""`megatron-mimo check-mixture` of this checkout."""

from checkout import run

if __name__ == "__main__":
    run("check-mixture")
