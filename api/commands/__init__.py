"""What all services that take commands share, whatever their application is."""
