"""The services described: the OpenAPI document, and the pages made of it."""
