"""`python -m api.aggregates` runs the command service."""

from api.aggregates.app import create_app
from api.server import run

if __name__ == "__main__":
    run("accounts", create_app)
