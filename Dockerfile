# segrobust with its command line. On the CPU, with the address of torch's CPU builds that its installation page shows:
#   docker build -t segrobust --build-arg TORCH_CPU_INDEX="$TORCH_CPU_INDEX" .
# With the GPU libraries of torch:
#   docker build -t segrobust --build-arg DEVICE=gpu .
FROM python:3.12-slim

ARG DEVICE=cpu
ARG TORCH_CPU_INDEX=""
RUN case "$DEVICE" in \
    gpu) ;; \
    cpu) test -n "$TORCH_CPU_INDEX" || { echo "give TORCH_CPU_INDEX, or DEVICE=gpu" >&2; exit 1; }; \
         pip install --no-cache-dir torch torchvision --index-url "$TORCH_CPU_INDEX" ;; \
    *) echo "DEVICE is cpu or gpu" >&2; exit 1 ;; \
    esac

WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY segrobust ./segrobust
RUN pip install --no-cache-dir ".[report]" && useradd --create-home user && mkdir /work && chown user /work

USER user
WORKDIR /work
ENTRYPOINT ["segrobust"]
CMD ["--help"]
