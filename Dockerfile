# One image for every role: docker run bank-transfer worker
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/bank
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY api api
RUN /opt/bank/bin/pip install --no-cache-dir .

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home bank
COPY --from=build /opt/bank /opt/bank
ENV PATH=/opt/bank/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/bank
ENTRYPOINT ["bank"]
CMD ["--help"]
