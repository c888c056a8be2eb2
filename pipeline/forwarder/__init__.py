"""The forwarder: copies new events from the MongoDB change stream to the JetStream stream."""
