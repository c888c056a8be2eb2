"""`python -m api.balances` runs the balance service."""

from api.balances.app import create_app
from api.server import run

if __name__ == "__main__":
    run("balances", create_app)
