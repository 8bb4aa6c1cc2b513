# The project on CPUs, as `make install` makes it: the packages of requirements/cpu.txt.
#   docker build -t megatron-mimo-cpu .
#   docker run --rm -it megatron-mimo-cpu examples/nano/quickstart.sh
# The judge of programs needs user namespaces: docker run --security-opt seccomp=unconfined (docs/judge.md).
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/megatron-mimo
COPY requirements requirements
RUN pip install --no-cache-dir --no-deps --extra-index-url https://download.pytorch.org/whl/cpu -r requirements/cpu.txt
COPY . .
RUN pip install --no-cache-dir --no-deps --editable .
# Where examples/nano/*.sh find the program.
ENV BIN=/usr/local/bin
