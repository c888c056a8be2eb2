# One image for every role: docker run bank-transfer worker
# What the bank needs is a layer of its own: a change of source neither installs nor pushes it again.
FROM python:3.12-slim AS needs
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/bank && python -m venv /opt/build
COPY constraints.txt pyproject.toml ./
RUN python -c "import tomllib; \
told = tomllib.load(open('pyproject.toml', 'rb')); \
bank = told['project']['dependencies'] + told['project']['optional-dependencies']['otel']; \
open('/opt/bank/needs', 'w').write('\n'.join(bank)); \
open('/opt/build/needs', 'w').write('\n'.join(told['build-system']['requires']))" \
 && /opt/bank/bin/pip install --constraint constraints.txt --requirement /opt/bank/needs \
 && /opt/build/bin/pip install --constraint constraints.txt --requirement /opt/build/needs

FROM needs AS wheel
COPY README.md LICENSE NOTICE ./
COPY pipeline pipeline
COPY api api
RUN /opt/build/bin/hatchling build --target wheel

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home bank
COPY --from=needs /opt/bank /opt/bank
COPY --from=wheel /src/dist /opt/dist
RUN /opt/bank/bin/pip install --no-cache-dir --no-index --no-deps /opt/dist/*.whl
ENV PATH=/opt/bank/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/bank
ENTRYPOINT ["bank"]
CMD ["--help"]
# docker build --build-arg REVISION="$(git rev-parse HEAD)" .
ARG REVISION
LABEL org.opencontainers.image.title="bank-transfer" \
      org.opencontainers.image.description="An event-sourced bank: every role of it." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.12-slim"
