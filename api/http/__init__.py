"""HTTP for both services: inputs, problem documents, headers, streams, schemas."""
