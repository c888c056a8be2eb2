"""What both services share of HTTP: inputs, problem documents, headers, streams, schemas."""
