"""What every part needs: settings, access to servers, logs, tracing, metrics, retries."""
