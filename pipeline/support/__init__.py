"""What every room needs: settings, access to servers, logs, tracing, metrics, retries."""
