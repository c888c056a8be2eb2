"""The description of the services: the OpenAPI document, and pages made from it."""
