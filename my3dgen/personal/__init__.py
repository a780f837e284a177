"""One person: projection, personalization and the file that holds both."""
